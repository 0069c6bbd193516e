//! Each case states what should hold. At the time of writing all of them but the last failed: they are the review's proofs.

use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icecore_conformance::commits::{append, create, ends, log, numbered, one, page, run};
use icecore_conformance::{Ending, Told};
use icecore_log::backend::Depth;
use icecore_log::{Access, Backend, Durability, ErrorKind, PageLimit, Version};
use icecore_object::bucket::{Fault, FaultKind, Folders, Listed, Object};
use icecore_object::{Bucket, BucketStore, Directory, Objects, Settings};

use crate::support::{Call, Handle, Rule, Twist, World, slot};

/// What a bucket does with the slots of a log, on top of a directory.
#[derive(Debug, Default)]
struct Lies {
    /// A create of a slot is carried out, and answered with "there is one": a client's own retry after a 500.
    says_there_is_one: AtomicBool,
    /// A create of a slot is carried out, and the answer lost.
    loses: AtomicBool,
    /// No slot can be read.
    is_mute: AtomicBool,
    /// So many reads of a slot give damaged bytes.
    garbles: AtomicUsize,
    /// Bytes of slots that were read, and listings.
    bytes: AtomicUsize,
    lists: AtomicUsize,
}

#[derive(Debug)]
struct Liar(Directory, Arc<Lies>);

#[async_trait]
impl Bucket for Liar {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Fault> {
        let made = self.0.create(name, bytes).await?;
        if name.contains("/c") && self.1.says_there_is_one.load(Ordering::SeqCst) {
            return Ok(false);
        }
        if name.contains("/c") && self.1.loses.load(Ordering::SeqCst) {
            return Err(Fault::new(FaultKind::Lost, "lost"));
        }
        Ok(made)
    }

    async fn replace(&self, name: &str, bytes: Bytes, tag: &str) -> Result<bool, Fault> {
        self.0.replace(name, bytes, tag).await
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Option<Object>, Fault> {
        if name.contains("/c") && self.1.is_mute.load(Ordering::SeqCst) {
            return Err(Fault::new(FaultKind::Lost, "mute"));
        }
        let mut got = self.0.get(name, range).await?;
        if let Some(object) = got.as_mut().filter(|_| name.contains("/c")) {
            self.1.bytes.fetch_add(object.bytes.len(), Ordering::SeqCst);
            if self.1.garbles.load(Ordering::SeqCst) > 0 {
                self.1.garbles.fetch_sub(1, Ordering::SeqCst);
                object.bytes = vec![0; object.bytes.len()].into();
            }
        }
        Ok(got)
    }

    async fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<Listed>, Fault> {
        self.1.lists.fetch_add(1, Ordering::SeqCst);
        self.0.list(prefix, after, max).await
    }

    async fn folders(&self, prefix: &str, cursor: Option<&str>, max: usize) -> Result<Folders, Fault> {
        self.0.folders(prefix, cursor, max).await
    }

    async fn delete(&self, names: Vec<String>) -> Result<(), Fault> {
        self.0.delete(names).await
    }
}

async fn liar(world: &World, set: impl FnOnce(&mut Settings)) -> (Arc<BucketStore>, Arc<Lies>) {
    let lies = Arc::new(Lies::default());
    let bucket = Liar(Directory::new(world.path("")).unwrap(), Arc::clone(&lies));
    let mut settings = Settings::new("directory", Durability::Disk);
    set(&mut settings);
    let store = Objects::open(Arc::new(bucket), Access::ReadWrite, settings).await.unwrap();
    (Arc::new(store), lies)
}

fn without_grace(settings: &mut Settings) {
    settings.grace = Duration::ZERO;
}

fn hasty(settings: &mut Settings) {
    settings.timeout = Duration::from_millis(300);
}

/// A process dies between the link and the removal of its temporary file, and one with its number comes.
#[tokio::test]
async fn what_a_dead_process_left_behind_is_not_the_way_to_its_commits() {
    let world = World::new();
    let Handle { store, .. } = world.handle().await;
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;
    let before = fs::read(world.path(&slot(&log, 1))).unwrap();
    for number in 0..5_000 {
        let left = world.path(&format!(".new/{}-{number}", std::process::id()));
        // One of them is being written by a test beside this one.
        let _ = fs::hard_link(world.path(&slot(&log, 1)), left);
    }

    append(&*store, &log, 2..=2).await;

    assert_eq!(
        fs::read(world.path(&slot(&log, 1))).unwrap(),
        before,
        "an acknowledged commit was overwritten"
    );
}

/// The client under us sends again by itself: "there is one" may be ours.
#[tokio::test]
async fn there_is_one_may_be_of_our_own_request() {
    let world = World::new();
    let (store, lies) = liar(&world, hasty).await;
    let log = log("s-1");
    lies.says_there_is_one.store(true, Ordering::SeqCst);
    lies.is_mute.store(true, Ordering::SeqCst);

    let told = create(&*store, one(&log, numbered(1, 0))).await;

    assert!(world.has_slot(&log, 1), "it was carried out");
    assert_eq!(told, Told::failed(ErrorKind::Unknown));
}

/// Only of kind `Unknown` may it have been carried out.
#[tokio::test]
async fn what_is_read_damaged_while_in_doubt_decides_nothing() {
    let world = World::new();
    let (store, lies) = liar(&world, hasty).await;
    let log = log("s-1");
    lies.loses.store(true, Ordering::SeqCst);
    lies.garbles.store(1, Ordering::SeqCst);

    let told = create(&*store, one(&log, numbered(1, 0))).await;

    assert_eq!(page(&*store, &log, 1).await.commits, [numbered(1, 0)], "it was carried out");
    assert_eq!(told, Told::failed(ErrorKind::Unknown));
}

/// Ours landed, its answer was lost, others built on it and closed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_is_not_said_of_a_commit_that_others_built_on() {
    let world = World::new();
    let (ours, theirs) = (world.handle().await, world.handle().await);
    let log = log("s-1");
    append(&*ours.store, &log, 1..=1).await;
    ours.bucket.plan(Rule::new(Call::Create, Twist::LoseAnswer).within("/c").times(1));
    ours.bucket.plan(Rule::new(Call::Get, Twist::LoseRequest).within("/c").times(1));
    ours.bucket.plan(Rule::new(Call::List, Twist::Hold).times(1));

    let (store, run) = (Arc::clone(&ours.store), run(&log, 2..=2, 0));
    let told = tokio::spawn(async move { create(&*store, run).await });
    ours.bucket.has_held(1).await;
    append(&*theirs.store, &log, 3..=3).await;
    theirs.store.close(&log, Version(2)).await.unwrap();
    ours.bucket.release();

    // `Closed` makes `rounds::apply` append the same entries again: commit 2 has them already.
    assert_eq!(told.await.unwrap(), Told::failed(ErrorKind::Unknown));
}

/// The same where every writer looks after it wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_is_not_said_of_a_commit_that_was_won_and_closed_since() {
    let world = World::new();
    let (ours, theirs) = (world.handle_with(without_grace).await, world.handle().await);
    let log = log("s-1");
    append(&*ours.store, &log, 1..=1).await;
    // The first is the look before the commit is sent.
    ours.bucket.plan(Rule::new(Call::List, Twist::Hold).skip(1).times(1));

    let (store, run) = (Arc::clone(&ours.store), run(&log, 2..=2, 0));
    let told = tokio::spawn(async move { create(&*store, run).await });
    ours.bucket.has_held(1).await;
    append(&*theirs.store, &log, 3..=3).await;
    theirs.store.close(&log, Version(2)).await.unwrap();
    ours.bucket.release();

    assert_eq!(told.await.unwrap(), Told::failed(ErrorKind::Unknown));
}

/// A run that goes on above the boundary is damaged: that is no reason to delete what is not closed.
#[tokio::test]
async fn a_damaged_head_is_not_swept() {
    let world = World::new();
    let Handle { store, .. } = world.handle_with(without_grace).await;
    let log = log("s-1");
    append(&*store, &log, 1..=10).await;
    store.close(&log, Version(5)).await.unwrap();
    let path = world.path(&slot(&log, 1));
    let mut bytes = fs::read(&path).unwrap();
    bytes[200] ^= 1;
    fs::write(&path, bytes).unwrap();

    let other = world.handle_with(without_grace).await.store;
    let swept = other.sweep(&log).await;

    let fresh = world.handle_with(without_grace).await.store;
    let rewritten = create(&*fresh, run(&log, 6..=6, 7)).await;
    assert_ne!(rewritten, Told::done(1), "commit 6 was acknowledged twice, with other bytes");
    assert!(path.exists(), "the head is never deleted: {swept:?}");
}

/// A zero-length `logs/NAME/` is what consoles make of "create folder", and what mounted buckets have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_others_in_the_folder_does_not_hide_the_boundary_from_a_late_writer() {
    let world = World::new();
    let (ours, theirs) = (world.handle_with(without_grace).await, world.handle_with(without_grace).await);
    let log = log("s-1");
    ours.bucket.plan(Rule::new(Call::Create, Twist::Hold).within("/c").times(1));

    let (store, first) = (Arc::clone(&ours.store), run(&log, 1..=1, 0));
    let told = tokio::spawn(async move { create(&*store, first).await });
    ours.bucket.has_held(1).await;
    for version in 1..=6 {
        assert_eq!(create(&*theirs.store, run(&log, version..=version, 1)).await, Told::done(1));
    }
    theirs.store.close(&log, Version(4)).await.unwrap();
    theirs.store.sweep(&log).await.unwrap();
    fs::write(world.path(&slot(&log, 1)).with_file_name("a"), b"").unwrap();
    ours.bucket.release();

    assert_eq!(told.await.unwrap(), Told::failed(ErrorKind::Unknown));
}

#[tokio::test]
async fn objects_of_others_do_not_hide_a_log() {
    let world = World::new();
    let Handle { store, .. } = world.handle_with(without_grace).await;
    let log = log("s-1");
    for version in 1..=9 {
        append(&*store, &log, version..=version).await;
    }
    store.close(&log, Version(5)).await.unwrap();
    store.sweep(&log).await.unwrap();
    for name in ["1", "2", "3", "a"] {
        fs::write(world.path(&slot(&log, 1)).with_file_name(name), b"").unwrap();
    }

    let fresh = world.handle_with(without_grace).await.store;
    let again = create(&*fresh, run(&log, 1..=1, 7)).await;

    assert_eq!(again, Told::stopped(Ending::Closed(Version(5))), "below the boundary nothing is created");
    assert_eq!(ends(&*fresh, &log).await, (9, 5));
}

/// A log that was closed before it had a commit, and swept; then a first commit lands that was sent before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_first_commit_is_no_head_of_a_log_that_is_closed() {
    let world = World::new();
    let (ours, theirs) = (world.handle_with(without_grace).await, world.handle_with(without_grace).await);
    let log = log("s-1");
    ours.bucket.plan(Rule::new(Call::Create, Twist::Hold).within("/c").times(1));
    let (store, first) = (Arc::clone(&ours.store), run(&log, 1..=7, 0));
    let told = tokio::spawn(async move { create(&*store, first).await });
    ours.bucket.has_held(1).await;
    theirs.store.close(&log, Version(5)).await.unwrap();
    theirs.store.sweep(&log).await.unwrap();
    ours.bucket.release();
    assert_eq!(told.await.unwrap(), Told::stopped(Ending::Closed(Version(5))));

    assert_eq!(page(&*theirs.store, &log, 6).await.commits, [], "what was refused can be read");
    assert_eq!(create(&*theirs.store, run(&log, 6..=8, 9)).await, Told::done(3), "the copy goes on");
}

/// A hole is a hole however many boundaries there are.
#[tokio::test]
async fn a_hole_is_told_where_there_are_many_boundaries() {
    for boundaries in [3, 70] {
        let world = World::new();
        let Handle { store, .. } = world.handle().await;
        let log = log("s-1");
        for version in 1..=200 {
            append(&*store, &log, version..=version).await;
        }
        for through in 1..=boundaries {
            store.close(&log, Version(through)).await.unwrap();
        }
        fs::remove_file(world.path(&slot(&log, 100))).unwrap();

        let found = store.read(&log, Version(100), PageLimit::WHOLE.commits(1)).await;

        let error = found.expect_err("the log ends before 100, it says");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{boundaries} boundaries");
    }
}

/// What a tail costs that has nothing to read.
#[tokio::test]
async fn a_page_behind_the_head_does_not_read_the_head() {
    let world = World::new();
    let (store, lies) = liar(&world, |_| {}).await;
    let log = log("s-1");
    let big = icecore_conformance::commits::commit(1, 0, vec![7; 4 << 20]);
    assert_eq!(create(&*store, one(&log, big)).await, Told::done(1));
    lies.bytes.store(0, Ordering::SeqCst);

    for _ in 0..10 {
        assert_eq!(page(&*store, &log, 2).await.commits, []);
    }

    let bytes = lies.bytes.load(Ordering::SeqCst);
    assert!(bytes < 1 << 20, "{bytes} bytes were read to see that there is nothing");
}

/// What a wait for a quiet log costs while others are written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_does_not_look_for_each_commit_of_another_log() {
    let world = World::new();
    let (store, lies) = liar(&world, |_| {}).await;
    let (quiet, busy) = (log("quiet"), log("busy"));
    append(&*store, &quiet, 1..=1).await;
    append(&*store, &busy, 1..=1).await;
    let waiting = {
        let (store, quiet) = (Arc::clone(&store), quiet.clone());
        tokio::spawn(async move { store.wait(&[(quiet, Version(1))], Duration::from_secs(60)).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    lies.lists.store(0, Ordering::SeqCst);

    for version in 2..=101 {
        append(&*store, &busy, version..=version).await;
    }

    let lists = lies.lists.load(Ordering::SeqCst);
    waiting.abort();
    assert!(lists < 10, "{lists} listings for 100 commits of another log");
}

/// A bucket's bytes are not trusted: one with the right checksum and the last number of all.
#[tokio::test]
async fn a_last_number_of_all_is_no_panic() {
    let world = World::new();
    let Handle { store, .. } = world.handle().await;
    let log = log("s-1");
    append(&*store, &log, 1..=1).await;
    let mut bytes = fs::read(world.path(&slot(&log, 1))).unwrap();
    bytes[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    let head = 24 + 16 + u32::from_le_bytes(bytes[24..28].try_into().unwrap()) as usize;
    let signed: Vec<u8> = bytes[..12].iter().chain(&bytes[16..head]).copied().collect();
    let crc = crc32(&signed);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    fs::write(world.path(&slot(&log, u64::MAX)), bytes).unwrap();

    let fresh = world.handle().await.store;
    let examined = tokio::spawn(async move { fresh.examine(Depth::Deep).await }).await;

    assert!(examined.is_ok(), "it panicked");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// A slow bucket, and bodies to be dropped of more commits than can be looked for in one call.
#[tokio::test]
async fn dropping_many_bodies_comes_to_an_end() {
    let world = World::new();
    let log = log("s-1");
    let writer = world.handle().await.store;
    for version in 1..=300 {
        append(&*writer, &log, version..=version).await;
    }
    let Handle { store, bucket, .. } =
        world.handle_with(|settings| settings.timeout = Duration::from_millis(150)).await;
    bucket.take();
    let versions: Vec<Version> = (1..=300).map(Version).collect();

    // However slow the machine is, a try goes on where the one before was cut off: five in a row that drop nothing do not.
    let (mut tries, mut idle, mut dropped) = (1, 0, 0);
    while store.drop_bodies(&log, &versions).await.is_err() {
        tries += 1;
        idle = if bucket.count(Call::Replace) > dropped { 0 } else { idle + 1 };
        dropped = bucket.count(Call::Replace);
        assert!(
            idle < 5,
            "{} listings and {dropped} replacements in {tries} tries",
            bucket.count(Call::List)
        );
    }
    assert!(bucket.count(Call::List) <= 2 * tries, "{} listings in {tries} tries", bucket.count(Call::List));
}

/// S3 answers 409 where two requests meet, and neither need be carried out: "there is one" is then not so.
#[tokio::test]
async fn a_conflict_is_no_boundary_and_no_blob() {
    let world = World::new();
    let Handle { store, bucket, .. } = world.handle().await;
    let log = log("s-1");
    append(&*store, &log, 1..=3).await;
    bucket.plan(Rule::new(Call::Create, Twist::Conflict).within("/b").times(1));
    bucket.plan(Rule::new(Call::Create, Twist::Conflict).within("blobs/").times(1));

    let closed = store.close(&log, Version(1)).await;
    let blob = icecore_log::BlobId::new(log.clone(), "x").unwrap();
    let put = store.put_blob(&blob, Bytes::from_static(b"x")).await;

    let boundary = ends(&*store, &log).await.1;
    let is_there = store.get_blob(&blob, None).await.unwrap().is_some();
    assert!(closed.is_err() || boundary == 1, "closed, and the boundary is {boundary}");
    assert!(put.is_err() || is_there, "{put:?}, and there is none");
}

#[cfg(feature = "cloud")]
mod over_http {
    use icecore_object::cloud;
    use icecore_services::gcs;

    use super::*;

    /// A request is carried out and its connection cut; whoever looks then is refused, or is not answered either.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_refusal_after_a_lost_answer_says_nothing_of_the_request() {
        for is_refused in [true, false] {
            let server = gcs::Server::start().unwrap();
            let options = format!("endpoint={}&bearer_token={}&timeout_ms=500", server.url(), gcs::TOKEN);
            let url = format!("gs://{}/hostile?{options}", gcs::BUCKET);
            let store = cloud::open(&url, Access::ReadWrite).await.unwrap();
            let log = log("s-1");
            append(&store, &log, 1..=1).await;

            server.lose_next_answers(1);
            if is_refused {
                server.fail_next_reads(1_000, 403);
            } else {
                server.lose_next_read_answers(1_000);
            }
            let told = create(&store, run(&log, 2..=2, 0)).await;
            server.fail_next_reads(0, 403);
            server.lose_next_read_answers(0);

            assert_eq!(page(&store, &log, 2).await.commits, [numbered(2, 0)], "it was carried out");
            assert_eq!(told, Told::failed(ErrorKind::Unknown));
        }
    }

    /// An emulator is no replicated store.
    #[tokio::test]
    async fn an_emulator_is_not_declared_as_the_service() {
        let (_, settings) = cloud::parse("az://c/p?use_emulator=true").unwrap();
        assert_ne!(settings.durability, Durability::Replicated, "{:?}", settings.facts);
    }

    #[tokio::test]
    async fn an_endpoint_is_shown_without_its_password() {
        let url = "s3://b/p?endpoint=https%3A%2F%2Fuser%3ASECRET%40host&access_key_id=a&secret_access_key=b&region=r";
        let (bucket, settings) = cloud::parse(url).unwrap();
        let shown = format!("{bucket:?} {settings:?}");
        assert!(!shown.contains("SECRET"), "{shown}");
    }
}
