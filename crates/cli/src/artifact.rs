//! `artifact`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use icecore::agents::Tenant;
use icecore::agents::artifacts::body::PART_BYTES;
use icecore::agents::artifacts::{
    Artifact, Artifacts, MakesRoom, Owner, Record, Retention, Swept, What, sweep,
};
use icecore::{Error, ErrorKind, Json, Result, Store, Timestamp};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::input::{Input, failed};
use crate::output::Output;
use crate::session::OfTenant;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "An artifact is content of a session: a file, a picture, a large text. Its id is a namespace and the beginning of the content's hash. The tenant may be named in ICECORE_TENANT.\n\nExamples:\n  icecore artifact put --tenant acme report.pdf --session s-1\n  icecore artifact list --tenant acme --session s-1\n  icecore artifact get --tenant acme art_2cf24dba5fb0 --to copy.pdf"
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show a tenant's artifacts, or those of a session
    List {
        #[command(flatten)]
        of: OfTenant,
        /// Of this session
        #[arg(long)]
        session: Option<String>,
    },
    /// Show what is said of an artifact
    Show(Which),
    /// Print an artifact's content, or write it to a file
    Get {
        #[command(flatten)]
        which: Which,
        /// Write it to this file, which is there when all of it was checked
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Store a file, or standard input for `-`
    Put(PutArgs),
    /// Delete an artifact
    Delete(Which),
    /// Delete what has expired, and what killed processes left
    Sweep {
        /// Of this tenant; by default of all that have artifacts
        #[arg(long)]
        tenant: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
pub struct Which {
    #[command(flatten)]
    of: OfTenant,
    /// Its id
    id: String,
    /// Of this session; by default of the one that stored it last
    #[arg(long)]
    session: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct PutArgs {
    #[command(flatten)]
    of: OfTenant,
    /// The file
    file: PathBuf,
    /// The session that it belongs to
    #[arg(long)]
    session: String,
    /// What its id begins with, such as the name of a tool
    #[arg(long)]
    namespace: Option<String>,
    /// What it is, such as application/pdf
    #[arg(long, value_name = "TYPE")]
    mime_type: Option<String>,
    /// For how long it stays; by default for ever
    #[arg(long, value_name = "LENGTH", value_parser = time::length)]
    ttl: Option<Duration>,
}

pub async fn list(
    tenant: &OfTenant,
    session: Option<&str>,
    store: &Store,
    output: &mut Output,
) -> Result<ExitCode> {
    let found = of(store, tenant.tenant()?).list(session.map(str::as_bytes)).await?;
    if output.is_json() {
        for artifact in &found {
            output.line(&as_json(artifact).to_string())?;
        }
    } else if found.is_empty() {
        output.note("There are no artifacts");
    } else {
        let rows = found.iter().map(row).collect();
        output.table(&["id", "session", "bytes", "type", "filename", "stored", "expires"], rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn show(which: &Which, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let artifact = which.find(store).await?;
    let shown = as_json(&artifact);
    if output.is_json() {
        output.line(&shown.to_string())?;
    } else {
        let members = shown.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let rows = members.map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            vec![name.clone(), value]
        });
        output.table(&["what", "is"], rows.collect())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn get(which: &Which, to: Option<&Path>, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let artifact = which.find(store).await?;
    let Some(to) = to else {
        let mut reading = artifact.read();
        while let Some(part) = reading.next().await? {
            output.bytes(&part)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    write(&artifact, to).await?;
    if output.is_json() {
        output.line(&as_json(&artifact).to_string())?;
    } else {
        output.note(&format!("{} were written to {}", HumanBytes(artifact.record().bytes), to.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Under another name first: half of it, or what is damaged, never stands where all of it should.
async fn write(artifact: &Artifact, to: &Path) -> Result<()> {
    let failed = |error| failed("writing an artifact", to, error);
    let mut beside = to.as_os_str().to_owned();
    beside.push(format!(".part-{}", std::process::id()));
    let written = async {
        let mut file = std::fs::File::create_new(&beside).map_err(failed)?;
        let mut reading = artifact.read();
        while let Some(part) = reading.next().await? {
            file.write_all(&part).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        std::fs::rename(&beside, to).map_err(failed)
    };
    let written = written.await;
    if written.is_err() {
        // It may not be there.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

pub async fn put(args: &PutArgs, mut input: Input, store: &Store, output: &mut Output) -> Result<ExitCode> {
    // Who stores by hand means it: nothing makes room, and only its own time ends it.
    let retention = Retention {
        ttl: args.ttl,
        artifact_bytes_max: u64::MAX,
        makes_room: MakesRoom::None,
        ..Retention::default()
    };
    let name = args.file.file_name().filter(|_| args.file.as_os_str() != "-");
    let about = json!({ "mime_type": args.mime_type, "filename": name.map(|name| name.to_string_lossy()), "namespace": args.namespace, "scope": { "tenant_id": null, "user_id": null, "session_id": args.session, "trace_id": null }, "source": {} });
    let namespace = args.namespace.as_ref().map(|namespace| namespace.as_bytes().to_vec());
    let what = What { namespace, trace: None, about: Json::text(about.to_string())? };
    let all = of(store, args.of.tenant()?).with_retention(retention);
    let mut upload = all.of(&Owner::session(args.session.as_str()))?.upload(what);
    let mut buffer = vec![0; PART_BYTES];
    loop {
        let count = input.read(&mut buffer).map_err(|error| failed("reading a file", &args.file, error))?;
        if count == 0 {
            break;
        }
        upload.write(Bytes::copy_from_slice(&buffer[..count])).await?;
    }
    let stored = upload.finish().await?;
    if output.is_json() {
        output.line(&as_json(&stored).to_string())?;
    } else {
        output.line(&stored.record().id)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn delete(which: &Which, store: &Store, output: &mut Output) -> Result<ExitCode> {
    if !which.find(store).await?.delete().await? {
        return Err(which.missing());
    }
    if output.is_json() {
        output.line(&json!({ "id": which.id, "deleted": true }).to_string())?;
    } else {
        output.line(&format!("{} was deleted", which.id))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn sweep(tenant: Option<&str>, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let swept = match tenant {
        Some(tenant) => of(store, Tenant::new(tenant)?).sweep().await?,
        None => sweep::all(store).await?,
    };
    if output.is_json() {
        output.line(&swept_json(&swept).to_string())?;
    } else {
        output.line(&format!(
            "sessions {}: {} artifacts of {} had expired, {} blobs were left behind",
            swept.sessions,
            swept.expired,
            HumanBytes(swept.bytes),
            swept.left_behind
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn swept_json(swept: &Swept) -> Value {
    json!({ "sessions": swept.sessions, "expired": swept.expired, "bytes": swept.bytes, "left_behind": swept.left_behind })
}

impl PutArgs {
    /// Opens the file, before a store is made for it.
    pub fn open(&self) -> Result<Input> {
        Input::open(&self.file)
    }
}

impl Which {
    async fn find(&self, store: &Store) -> Result<Artifact> {
        let all = of(store, self.of.tenant()?);
        let found = match &self.session {
            Some(session) => all.find_in(session.as_bytes(), &self.id).await?,
            None => all.find(&self.id).await?,
        };
        found.ok_or_else(|| self.missing())
    }

    fn missing(&self) -> Error {
        Error::new(ErrorKind::NotFound, "looking for an artifact")
            .with("tenant", &self.of.tenant)
            .with("id", &self.id)
            .advise("There is none, or it has expired: `icecore artifact list` shows those that are there")
    }
}

fn of(store: &Store, tenant: Tenant) -> Artifacts {
    Artifacts::new(store.clone(), tenant)
}

fn about(record: &Record) -> Value {
    serde_json::from_str(record.about.get()).unwrap_or_default()
}

fn at(ms: i64) -> String {
    time::show(Timestamp(ms.saturating_mul(1_000_000)))
}

fn as_json(artifact: &Artifact) -> Value {
    let record = artifact.record();
    let about = about(record);
    json!({
        "id": record.id,
        "session": artifact.session(),
        "bytes": record.bytes,
        "sha256": record.sha256,
        "mime_type": about["mime_type"],
        "filename": about["filename"],
        "namespace": about["namespace"],
        "trace": record.trace,
        "stored_at": at(record.created_at_ms),
        "expires_at": record.expires_at_ms.map(at),
        "scope": about["scope"],
        "source": about["source"],
    })
}

fn row(artifact: &Artifact) -> Vec<String> {
    let record = artifact.record();
    let about = about(record);
    let text = |name: &str| about[name].as_str().unwrap_or_default().to_owned();
    vec![
        record.id.clone(),
        artifact.session(),
        HumanBytes(record.bytes).to_string(),
        text("mime_type"),
        text("filename"),
        at(record.created_at_ms),
        record.expires_at_ms.map_or_else(|| "never".to_owned(), at),
    ]
}
