//! The servers that a whole run of tests shares; and `services`, which runs any command with them.

use icecore_services::{self as services, azurite, gcs, mariadb, mongodb, moto, postgres, redis};

use crate::run::{self, Outcome, command, succeed};

/// One of each; they end with this process, however that ends.
pub struct Servers {
    postgres: postgres::Server,
    mariadb: mariadb::Server,
    moto: moto::Server,
    azurite: azurite::Server,
    gcs: gcs::Server,
    redis: redis::Server,
    valkey: redis::Server,
    mongodb: mongodb::Server,
}

impl Servers {
    pub fn start() -> Outcome<Self> {
        Ok(Self {
            postgres: postgres::Server::start(&[])?,
            mariadb: mariadb::Server::start(&[])?,
            moto: moto::Server::start()?,
            azurite: azurite::Server::start()?,
            gcs: gcs::Server::start()?,
            redis: redis::Server::start(&[])?,
            valkey: redis::Server::start_valkey(&[])?,
            mongodb: mongodb::Server::start_set()?,
        })
    }

    /// Which they are.
    pub fn say(&self) -> Outcome {
        println!("{}", postgres::sql(&self.postgres.url(), &["SELECT version()"])?);
        println!("MariaDB {}, for MySQL too", mariadb::sql(&self.mariadb.url(), &["SELECT VERSION()"])?);
        println!("Redis {}", redis::version()?);
        println!("Valkey {}", redis::valkey_version()?);
        println!("MongoDB {}, as a replica set of one", mongodb::version()?);
        println!("moto {}, for S3 and DynamoDB", moto::version()?);
        println!("Azurite {}, for Azure", azurite::version()?);
        println!("crates/services/src/gcs, for Google Cloud Storage");
        Ok(())
    }

    /// Where the tests find them.
    pub fn variables(&self) -> [(String, String); 9] {
        [
            ("postgres", self.postgres.url()),
            ("mariadb", self.mariadb.url()),
            ("s3", self.moto.url()),
            ("dynamodb", self.moto.url()),
            ("azure", self.azurite.url()),
            ("gcs", self.gcs.url()),
            ("redis", self.redis.url()),
            ("valkey", self.valkey.url()),
            ("mongodb", self.mongodb.url()),
        ]
        .map(|(service, url)| (services::variable(service), url))
    }
}

/// Runs a command while the servers run, with the variables that the tests read; without one, says which they are.
pub fn run(arguments: &[&str]) -> Outcome {
    let servers = Servers::start()?;
    let Some((program, arguments)) = arguments.split_first() else {
        servers.say()?;
        servers.variables().iter().for_each(|(name, url)| println!("{name}={url}"));
        println!("They end with this command. `cargo xtask services COMMAND` runs one with them.");
        return Ok(());
    };
    succeed(command(program, arguments).envs(servers.variables()))
}

/// Every system beside its own client, with rounds and systems as given.
pub fn bench(arguments: &[&str]) -> Outcome {
    // Built before the servers run beside it.
    let built = ["--release", "--quiet", "--package", "icecore-bench", "--features", "systems"];
    run::cargo(&[&["build"], &built[..]].concat())?;
    let cargo = run::cargo_path();
    let program: Vec<&str> = [&[cargo.as_str(), "run"], &built[..], &["--", "systems"], arguments].concat();
    run(&program)
}
