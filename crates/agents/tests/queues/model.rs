//! Generated sequences of calls from two processes, compared with a model that is a list.

use std::collections::BTreeMap;

use icecore_agents::queues::{GivenBack, Purge, REMEMBERED};
use icecore_log::{ErrorKind, Timestamp};

use super::*;

/// SplitMix64. Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn seconds(&mut self, end: u64) -> Duration {
        Duration::from_secs(self.below(end))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Ready,
    Delayed(Timestamp),
    Leased(Timestamp),
    Dead,
    Done(Timestamp),
}

#[derive(Debug, Clone)]
struct One {
    id: String,
    at: At,
    fence: u64,
    attempts: u32,
    attempts_max: Option<u32>,
}

/// What a queue should do, without a thought of cost.
#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<u64, One>,
    numbers: u64,
    fences: u64,
}

impl Model {
    fn find(&mut self, id: &str) -> Option<(u64, &mut One)> {
        let mut found = self.messages.iter_mut().rev().filter(|(_, one)| one.id == id);
        found.next().map(|(number, one)| (*number, one))
    }

    fn put(&mut self, id: &str, delay: Duration, attempts_max: Option<u32>, now: Timestamp) -> (u64, bool) {
        self.messages.retain(|_, one| !(one.id == id && matches!(one.at, At::Done(end) if end <= now)));
        if let Some((number, _)) = self.find(id) {
            return (number, true);
        }
        self.numbers += 1;
        let at = if delay.is_zero() { At::Ready } else { At::Delayed(now.after(delay)) };
        let one = One { id: id.to_owned(), at, fence: 0, attempts: 0, attempts_max };
        self.messages.insert(self.numbers, one);
        (self.numbers, false)
    }

    /// The numbers, fences and attempts of what is given out.
    fn lease(&mut self, count: usize, length: Duration, now: Timestamp) -> Vec<(u64, u64, u32)> {
        for one in self.messages.values_mut() {
            if let At::Delayed(time) | At::Leased(time) = one.at
                && time <= now
            {
                let is_worn_out = one.attempts_max.is_some_and(|max| one.attempts >= max);
                one.at = if is_worn_out { At::Dead } else { At::Ready };
            }
        }
        let fence = self.fences + 1;
        let ready = self.messages.iter_mut().filter(|(_, one)| one.at == At::Ready).take(count);
        let leased: Vec<_> = ready
            .map(|(number, one)| {
                (one.at, one.fence, one.attempts) = (At::Leased(now.after(length)), fence, one.attempts + 1);
                (*number, fence, one.attempts)
            })
            .collect();
        self.fences += u64::from(!leased.is_empty());
        leased
    }

    /// The message if its worker may say something of it; whether it is done already.
    fn settle(&mut self, id: &str, fence: u64, now: Timestamp) -> Result<(bool, &mut One), ErrorKind> {
        match self.find(id) {
            Some((_, One { at: At::Done(end), .. })) if *end <= now => Err(ErrorKind::NotFound),
            Some((_, one)) if one.fence == fence && matches!(one.at, At::Leased(_)) => Ok((false, one)),
            Some((_, one)) if one.fence == fence && matches!(one.at, At::Done(_)) => Ok((true, one)),
            Some(_) => Err(ErrorKind::Conflict),
            None => Err(ErrorKind::NotFound),
        }
    }
}

async fn run(seed: u64) {
    let (world, mut model, mut chance) = (World::new(), Model::default(), Chance(seed));
    let queues = [world.queue(), world.queue()];
    for step in 0..300 {
        let queue = &queues[usize::try_from(chance.below(2)).unwrap()];
        let now = world.clock.now();
        let said = format!("seed {seed}, step {step}");
        // Few ids: so they come again, and fences are often stale.
        let id = chance.below(12).to_string();
        let fence =
            model.find(&id).map_or(1, |(_, one)| one.fence).saturating_sub(u64::from(chance.below(4) == 0));
        match chance.below(12) {
            0..=2 => {
                let delay = chance.seconds(3);
                let attempts_max = [None, Some(1), Some(2)][usize::try_from(chance.below(3)).unwrap()];
                let put = queue.put(&[Message { delay, attempts_max, ..message(&id) }]).await.unwrap()[0];
                assert_eq!((put.number, put.repeated), model.put(&id, delay, attempts_max, now), "{said}");
            }
            3..=5 => {
                let (count, length) =
                    (usize::try_from(chance.below(3) + 1).unwrap(), chance.seconds(4) + SECOND);
                let leased = queue.lease(count, length).await.unwrap();
                let seen: Vec<_> = leased.iter().map(|one| (one.number, one.fence, one.attempts)).collect();
                assert_eq!(seen, model.lease(count, length, now), "{said}");
            }
            6..=7 => {
                let told = queue.ack(&id, fence).await.map_err(|error| error.kind());
                let should = model.settle(&id, fence, now).map(|(is_done, one)| {
                    if !is_done {
                        one.at = At::Done(now.after(REMEMBERED));
                    }
                });
                assert_eq!(told, should, "{said}");
            }
            8 => {
                let delay = chance.seconds(3);
                let told = queue.nack(&id, fence, delay, "no").await.map_err(|error| error.kind());
                let should = model.settle(&id, fence, now).and_then(|(is_done, one)| {
                    let is_worn_out = one.attempts_max.is_some_and(|max| one.attempts >= max);
                    let (at, given) = match (is_done, is_worn_out, delay.is_zero()) {
                        (true, ..) => return Err(ErrorKind::Conflict),
                        (_, true, _) => (At::Dead, GivenBack::Dead),
                        (_, _, true) => (At::Ready, GivenBack::Ready),
                        _ => (At::Delayed(now.after(delay)), GivenBack::Delayed(now.after(delay))),
                    };
                    one.at = at;
                    Ok(given)
                });
                assert_eq!(told, should, "{said}");
            }
            9 => {
                let told = queue.extend(&id, fence, SECOND).await.map_err(|error| error.kind());
                let should = model.settle(&id, fence, now).and_then(|(is_done, one)| {
                    if is_done {
                        return Err(ErrorKind::Conflict);
                    }
                    one.at = At::Leased(now.after(SECOND));
                    Ok(now.after(SECOND))
                });
                assert_eq!(told, should, "{said}");
            }
            10 => rarely(queue, &mut model, &mut chance, &said).await,
            _ => world.pass(if chance.below(20) == 0 { REMEMBERED } else { chance.seconds(4) }),
        }
        compare(queue, &model, world.clock.now(), &said).await;
    }
}

async fn rarely(queue: &Queue, model: &mut Model, chance: &mut Chance, said: &str) {
    if chance.below(2) == 0 {
        let dead = model.messages.values_mut().filter(|one| one.at == At::Dead);
        let count = dead.map(|one| (one.at, one.attempts) = (At::Ready, 0)).count();
        assert_eq!(queue.replay_all().await.unwrap(), count as u64, "{said}");
        return;
    }
    let (what, is_meant): (_, fn(&At) -> bool) = match chance.below(3) {
        0 => (Purge::Dead, |at| matches!(at, At::Dead)),
        1 => (Purge::Waiting, |at| matches!(at, At::Ready | At::Delayed(_))),
        _ => (Purge::All, |at| !matches!(at, At::Done(_))),
    };
    let count = model.messages.values().filter(|one| is_meant(&one.at)).count() as u64;
    assert_eq!(queue.purge(what, true).await.unwrap().messages, count, "{said}");
    assert_eq!(queue.purge(what, false).await.unwrap().messages, count, "{said}");
    model.messages.retain(|_, one| !is_meant(&one.at));
}

/// All that is told of the whole queue.
async fn compare(queue: &Queue, model: &Model, now: Timestamp, said: &str) {
    let is_due = |time: &Timestamp| *time <= now;
    let worn_out = |one: &&One| one.attempts_max.is_some_and(|max| one.attempts >= max);
    let count = |is: &dyn Fn(&&One) -> bool| model.messages.values().filter(is).count() as u64;
    let due = |one: &&One| matches!(&one.at, At::Delayed(time) | At::Leased(time) if is_due(time));
    let seen = queue.statistics().await.unwrap();
    let should = (
        count(&|one| one.at == At::Ready || (due(one) && !worn_out(one))),
        count(&|one| matches!(one.at, At::Delayed(_)) && !due(one)),
        count(&|one| matches!(one.at, At::Leased(_)) && !due(one)),
        count(&|one| one.at == At::Dead || (due(one) && worn_out(one))),
    );
    assert_eq!((seen.ready, seen.delayed, seen.leased, seen.dead), should, "{said}");
    let dead: Vec<_> = queue.dead(None, 100).await.unwrap().into_iter().map(|dead| dead.number).collect();
    let should: Vec<_> =
        model.messages.iter().filter(|(_, one)| one.at == At::Dead).map(|(number, _)| *number).collect();
    assert_eq!(dead, should, "{said}");
}

#[tokio::test]
async fn generated_calls_do_what_a_list_would() {
    for seed in 0..60 {
        run(seed).await;
    }
}
