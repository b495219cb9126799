//! `falgate check`, the ledger of budgets and the configuration of a public demo, as a shell sees them.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use falgate::config::{Config, Environment};
use falgate::guard::{Cost, Lasting, Limits, Prices, Subject};
use falgate::wire::{CallKind, EndpointId, FalCall};

fn check(folder: &Path, ledger: &Path) -> (Option<i32>, String) {
    let file = folder.join("falgate.toml");
    std::fs::write(&file, format!("[limits]\nledger = \"{}\"\n", ledger.display())).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_falgate"));
    let output = command.args(["check", "--config"]).arg(&file).env_clear().output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn check_opens_the_ledger_as_serve_would_and_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger.redb");
    assert_eq!(check(folder.path(), &ledger), (Some(0), String::new()));
    assert!(!ledger.exists());
    std::fs::write(&ledger, "a text that is no ledger").unwrap();
    let no_folder = folder.path().join("no/such/ledger.redb");
    for (ledger, why) in [(&ledger, "the ledger cannot be opened"), (&no_folder, "cannot be written: No such file")] {
        let (code, complained) = check(folder.path(), ledger);
        assert_eq!(code, Some(78), "{complained}");
        let named = format!("the ledger of budgets in {} cannot be used (limits.ledger): ", ledger.display());
        assert!(complained.contains(&named) && complained.contains(why), "{complained}");
        assert_eq!(complained.lines().count(), 1, "{complained}");
    }
}

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/public-demo.toml");

#[test]
fn the_public_demo_passes_check_without_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_falgate"));
    command
        .args(["check", "--config", DEMO])
        .env_clear()
        .env("FAL_KEY", "a-key:of-no-worth")
        .current_dir(folder.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.code(), said.trim()), (Some(0), &*format!("{DEMO}: no fault found")), "{output:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "check makes nothing");
}

#[tokio::test(start_paused = true)]
async fn the_public_demo_stops_one_visitor_early_and_everybody_at_its_budget() {
    let text = std::fs::read_to_string(DEMO).unwrap();
    let mut settings = Config::load(&text, &Environment::from([("FAL_KEY", "a-key:of-no-worth")])).unwrap().limits;
    settings.ledger = Some(std::path::PathBuf::new());
    let limits = Limits::open_at(&settings, UNIX_EPOCH + Duration::from_secs(20_000 * 86_400)).unwrap();
    let prices = Prices::new(&settings);
    let visitor = |number: u32| Subject {
        address: std::net::Ipv4Addr::from_bits(number).into(),
        caller: None,
        tier: None,
        endpoint: EndpointId::parse("fal-ai/flux/schnell"),
    };
    let call = FalCall { kind: CallKind::Run, endpoint: EndpointId::parse("fal-ai/flux/schnell"), request_id: None };
    let cost = prices.call(&call, 1000);
    // With a new cookie for each socket an address gets a few, and no more; one visitor gets one.
    let cookie = |number: u32| Subject { caller: Some(format!("visitor-{number}").into()), ..visitor(9) };
    let open = |subject: &Subject| limits.charge(subject, Cost::ZERO, Some(Lasting::Sockets));
    let mut held: Vec<_> = (0..3).map(|number| open(&cookie(number)).unwrap()).collect();
    assert_eq!(open(&cookie(2)).unwrap_err().rule(), "one-socket");
    // Somebody's first page has no name yet, and counts by the address alone.
    held.push(open(&visitor(9)).unwrap());
    for late in [cookie(4), visitor(9)] {
        assert_eq!(open(&late).unwrap_err().rule(), "sockets");
    }
    drop(held);
    // One that calls whenever it may, and is stopped by each window and then by the day's share.
    let stops = async |who: &Subject, cost: Cost, last: &str| {
        let (mut stopped_by, mut calls) = (Vec::<String>::new(), 0);
        while stopped_by.last().is_none_or(|rule| rule != last) {
            match limits.charge(who, cost, Some(Lasting::Requests)) {
                Ok(_) => calls += 1,
                Err(refusal) => {
                    if !stopped_by.iter().any(|rule| rule == refusal.rule()) {
                        stopped_by.push(refusal.rule().to_owned());
                    }
                    if refusal.rule() != last {
                        tokio::time::advance(refusal.wait().unwrap()).await;
                    }
                }
            }
        }
        (calls, stopped_by.join(" "))
    };
    let (calls, stopped_by) = stops(&visitor(3), cost, "visitor-day").await;
    assert_eq!((calls, &*stopped_by), (166, "second minute visitor-day"), "50 cents at 0.3");
    // Tokens cost no money, and end with the hour.
    let token = FalCall { kind: CallKind::Token, endpoint: None, request_id: None };
    let (calls, stopped_by) = stops(&visitor(4), prices.call(&token, 0), "hour").await;
    assert_eq!(&*stopped_by, "second minute hour");
    assert!((600..720).contains(&calls), "600, and what came back meanwhile: {calls}");
    // Visitors without end spend what the day has, to the last picture, and not one more.
    let mut spent = 166 * 300;
    let refusal = (5..).find_map(|number| match limits.charge(&visitor(number), cost, None) {
        Ok(_) => {
            spent += 300;
            None
        }
        Err(refusal) => Some(refusal),
    });
    let refusal = refusal.unwrap();
    assert_eq!(refusal.rule(), "demo-day");
    assert!(spent <= 2_000_000 && spent + 300 > 2_000_000, "{spent}");
    assert!(refusal.wait().unwrap() > Duration::from_secs(80_000), "until midnight");
}
