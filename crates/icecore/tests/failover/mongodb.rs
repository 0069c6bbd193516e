//! A replica set of three.

use icecore_services::mongodb::Set;
use tokio::task::block_in_place;

use crate::rounds;
use crate::writers::{Writers, missing};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mongodb_acknowledged_survives_the_death_of_its_primary() {
    let mut set = block_in_place(|| Set::start().unwrap());
    let url = set.url("agents");
    let writers = Writers::start(&url).await;

    for is_last in rounds(1) {
        writers.reach(50).await;
        let killed = block_in_place(|| set.primary().unwrap());
        writers.failing();
        block_in_place(|| {
            set.nodes[killed].kill();
            assert_ne!(set.primary().unwrap(), killed);
        });
        writers.reach(50).await;
        writers.print("mongodb, killed and another elected");
        if !is_last {
            block_in_place(|| set.nodes[killed].resume().unwrap());
        }
    }

    assert_eq!(missing(&url, writers.stop().await).await, []);
}
