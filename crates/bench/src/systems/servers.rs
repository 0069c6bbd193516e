//! Databases, by their own clients.

use std::ops::Range;

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine};
use futures_util::future::try_join_all;
use icecore::Result;
use icecore_services::{self as services, dynamodb, mariadb, postgres};
use mongodb::bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use mongodb::options::{Acknowledgment, CollectionOptions, WriteConcern};
use serde_json::json;
use sqlx::{Connection, MySqlConnection, PgConnection};

use super::bare::{Bytes, Client};
use super::{Place, failed, said};
use crate::postgres::insert;

/// So many connections, of a table that is made for them.
pub async fn open(place: &Place, count: usize, clients: &mut Vec<Box<dyn Client>>) -> Result<()> {
    match place {
        Place::Postgres(database) => {
            let table = "CREATE TABLE bare (log bigint, version bigint, header bytea, body bytea, PRIMARY KEY (log, version))";
            postgres::sql(&database.url(), &[table, "ALTER TABLE bare ALTER body SET STORAGE EXTERNAL"])
                .map_err(said)?;
            for _ in 0..count {
                clients
                    .push(Box::new(Postgres(PgConnection::connect(&database.url()).await.map_err(failed)?)));
            }
        }
        Place::Mysql(database) => {
            let table = "CREATE TABLE bare (log bigint, version bigint, header longblob, body longblob, PRIMARY KEY (log, version))";
            mariadb::sql(&database.url(), &[table]).map_err(said)?;
            for _ in 0..count {
                clients
                    .push(Box::new(Mysql(MySqlConnection::connect(&database.url()).await.map_err(failed)?)));
            }
        }
        Place::Mongodb(database) => {
            let client = mongodb::Client::with_uri_str(database.url()).await.map_err(failed)?;
            let certain = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
            let options = CollectionOptions::builder().write_concern(certain).build();
            let collection = client.database(database.name()).collection_with_options("bare", options);
            // Made by its first insert, and that is not what is measured.
            collection.insert_one(doc! {"_id": "first"}).await.map_err(failed)?;
            clients.extend((0..count).map(|_| -> Box<dyn Client> { Box::new(Mongodb(collection.clone())) }));
        }
        Place::Redis(prefix) => {
            let server = services::url("redis");
            let client = redis::Client::open(server).map_err(failed)?;
            for _ in 0..count {
                let connection = client.get_multiplexed_async_connection().await.map_err(failed)?;
                clients.push(Box::new(Redis { connection, prefix: prefix.name().to_owned() }));
            }
        }
        Place::Dynamodb(table) => {
            let http = reqwest::Client::new();
            let address = table.server().to_owned();
            clients.extend((0..count).map(|_| -> Box<dyn Client> {
                Box::new(Dynamodb {
                    http: http.clone(),
                    address: address.clone(),
                    table: table.name().to_owned(),
                })
            }));
        }
        Place::Memory | Place::Folder(_) | Place::Bucket(_) => {}
    }
    Ok(())
}

struct Postgres(PgConnection);

#[async_trait]
impl Client for Postgres {
    async fn put(&mut self, rows: Range<usize>, bytes: &Bytes) -> Result<()> {
        insert(&mut self.0, rows, &bytes.header, &bytes.body).await
    }
}

struct Mysql(MySqlConnection);

#[async_trait]
impl Client for Mysql {
    async fn put(&mut self, rows: Range<usize>, bytes: &Bytes) -> Result<()> {
        let mut statement = sqlx::QueryBuilder::new("INSERT INTO bare (log, version, header, body) ");
        statement.push_values(rows, |mut values, row| {
            values
                .push_bind(row as i64)
                .push_bind(1_i64)
                .push_bind(&bytes.header[..])
                .push_bind(&bytes.body[..]);
        });
        statement.build().execute(&mut self.0).await.map_err(failed)?;
        Ok(())
    }
}

struct Mongodb(mongodb::Collection<Document>);

#[async_trait]
impl Client for Mongodb {
    async fn put(&mut self, rows: Range<usize>, bytes: &Bytes) -> Result<()> {
        let binary =
            |bytes: &[u8]| Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() });
        let documents = rows.map(|row| {
            doc! {"_id": format!("acme/bench/{row}/{:016x}", 1), "h": binary(&bytes.header), "b": binary(&bytes.body)}
        });
        self.0.insert_many(documents).ordered(false).await.map_err(failed)?;
        Ok(())
    }
}

struct Redis {
    connection: redis::aio::MultiplexedConnection,
    prefix: String,
}

#[async_trait]
impl Client for Redis {
    async fn put(&mut self, rows: Range<usize>, bytes: &Bytes) -> Result<()> {
        let one = [&bytes.header[..], &bytes.body[..]].concat();
        let mut pipe = redis::pipe();
        for row in rows {
            pipe.cmd("SET").arg(format!("{}/bare/{row}", self.prefix)).arg(&one).arg("NX").ignore();
        }
        pipe.query_async::<()>(&mut self.connection).await.map_err(failed)
    }
}

struct Dynamodb {
    http: reqwest::Client,
    address: String,
    table: String,
}

#[async_trait]
impl Client for Dynamodb {
    async fn put(&mut self, rows: Range<usize>, bytes: &Bytes) -> Result<()> {
        let (header, body) = (BASE64_STANDARD.encode(&bytes.header), BASE64_STANDARD.encode(&bytes.body));
        let puts = rows.map(|row| {
            let item = json!({
                "TableName": self.table,
                "Item": {
                    "pk": {"S": format!("bare/l/acme/bench/{row}")}, "sk": {"S": format!("c{:016x}", 1)},
                    "h": {"B": header}, "b": {"B": body},
                },
                "ConditionExpression": "attribute_not_exists(pk)",
            });
            let request = self.http.post(&self.address).body(item.to_string());
            let request = dynamodb::headers("PutItem")
                .into_iter()
                .fold(request, |request, (name, value)| request.header(name, value));
            async move { request.send().await?.error_for_status() }
        });
        try_join_all(puts).await.map_err(failed)?;
        Ok(())
    }
}
