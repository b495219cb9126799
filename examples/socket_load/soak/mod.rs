//! Sockets that behave badly for a while, beside some that behave well: the gate's memory must stay flat, the well-behaved
//! must not notice, and nothing may be left when all have gone.

mod character;
mod malformed;
mod memory;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::arguments::{Door, Soak};
use super::error::LoadError;
use super::process::{Process, metric, metric_falls};
use super::token::Opener;
use character::{Actor, Character, Kind};
use memory::Memory;
use tally::Tally;

/// Gauges that must be zero when all sockets have gone.
const GAUGES: [&str; 3] = ["falgate_connections_open", "falgate_sockets_open", "falgate_relay_open"];
/// Tasks of the gate's runtime, where it is the one of this program.
const TASKS: &str = "tasks_alive";

/// Runs the whole soak.
pub(crate) async fn run(task: &Soak) -> Result<(), LoadError> {
    let gate = Process(task.pid);
    let tasks_before = metric(&task.admin, TASKS).await?;
    let before = gate.resident_kib()?;
    let engine = Arc::new(Opener::new(task.door.clone()));
    let relay = task.relayed.as_ref().map(|url| {
        let door = Door { url: url.clone(), app: task.relayed_app.clone(), ..task.door.clone() };
        Arc::new(Opener::new(door))
    });
    let until = Instant::now() + Duration::from_secs(task.seconds);
    let material = Arc::new(character::Material::new()?);
    let mut actors = JoinSet::new();
    for at in 0..task.sockets {
        let character = Character::ALL[at % Character::ALL.len()];
        let (opener, kind) = match &relay {
            Some(relay) if at / Character::ALL.len() % 2 == 1 => (relay, Kind::Relayed),
            _ => (&engine, Kind::Engine),
        };
        let actor = Actor { character, kind, opener: Arc::clone(opener), material: Arc::clone(&material), until };
        actors.spawn(async move { (character, actor.act().await) });
        // All at once would be a test of the listener's backlog.
        sleep(Duration::from_millis(5)).await;
    }
    let memory = Memory::watch(gate, until).await?;
    let mut tallies = [Tally::default(); Character::ALL.len()];
    while let Some(ended) = actors.join_next().await {
        let (character, tally) = ended.map_err(|_| LoadError::Setup("an actor panicked".to_owned()))?;
        tallies[character as usize].join(&tally);
    }
    let mut left = Vec::new();
    for gauge in GAUGES {
        left.push((gauge, metric_falls(&task.admin, gauge, 0.0).await?));
    }
    if let Some(tasks) = tasks_before {
        left.push((TASKS, (metric_falls(&task.admin, TASKS, tasks).await? - tasks).max(0.0)));
    }
    let after = gate.resident_kib()?;

    Tally::print(Character::ALL.iter().map(|character| character.name()).zip(&tallies));
    memory.print(before, after);
    memory.write_raw(task.raw.as_deref())?;
    for (gauge, value) in &left {
        println!("{gauge} at the end: {value}");
    }
    let mut missed = Vec::new();
    if memory.growth_kib() > task.growth_mib * 1024 {
        missed.push(format!("memory grew by {} KiB", memory.growth_kib()));
    }
    missed.extend(left.iter().filter(|(_, value)| *value > 0.0).map(|(gauge, value)| format!("{gauge} is {value}")));
    let well_behaved = &tallies[Character::Painter as usize];
    if well_behaved.failed + well_behaved.refused > 0 || well_behaved.received == 0 {
        missed.push("painters were disturbed".to_owned());
    }
    if tallies.iter().any(|tally| tally.hung > 0) {
        missed.push("sockets stayed open after a malformed frame or a half close".to_owned());
    }
    LoadError::unless_missed(&missed)
}
