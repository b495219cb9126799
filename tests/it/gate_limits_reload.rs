//! SIGHUP: other limits, the same memory, and a configuration with faults changes nothing.

use rustix::process::Signal;

use crate::gate_support::{FAL_KEY, Line, fal_at, proxied};
use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::program::Program;

const FLUX: &str = "https://fal.run/fal-ai/flux";

fn rule(name: &str, amount: u32) -> String {
    format!(
        "[[limits.rule]]\nname = \"{name}\"\nof = \"requests\"\nby = \"address\"\namount = {amount}\nper_ms = 3600000\n"
    )
}

async fn status(line: &mut Line) -> u16 {
    line.send(proxied(FLUX, "{}")).await.status.as_u16()
}

#[tokio::test]
async fn sighup_changes_limits_and_forgets_nothing() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("ledger = \"{}\"\nledger_write_ms = 10\n", folder.path().join("ledger.redb").display());
    let budget = |amount: u32| {
        format!(
            "[[limits.budget]]\nname = \"day\"\nof = \"requests\"\nby = \"all\"\namount = {amount}\nper = \"month\"\n"
        )
    };
    let config = |rows: &str| format!("{}[limits]\n{ledger}{rows}", fal_at(&fal.url()));
    let mut gate = Program::start(&config(&budget(3)), &[("FAL_KEY", FAL_KEY)]);
    let mut line = Line::to(gate.address().await).await;
    for expected in [200, 200, 200, 429] {
        assert_eq!(status(&mut line).await, expected);
    }

    // A larger budget keeps what was spent, and a rule that was not there begins.
    gate.rewrite(&config(&format!("{}{}", budget(6), rule("new", 2))));
    gate.signal(Signal::HUP);
    gate.says("read the limits again").await;
    for expected in [200, 200, 429] {
        assert_eq!(status(&mut line).await, expected, "five of six are spent, two of the new rule's two");
    }

    // Faults, wherever they are, keep what is at hand; each is told with its key.
    let wrong =
        config(&format!("{}{}", budget(6), rule("b a d", 9))).replace("[limits]\n", "[limits]\nipv6_prefix = 0\n");
    gate.rewrite(&wrong);
    gate.signal(Signal::HUP);
    gate.says("limits.rule[0].name: is not 1 to 40 letters").await;
    gate.says("limits.ipv6_prefix: is not 1 to 128").await;
    assert_eq!(status(&mut line).await, 429);

    // What can only change at a start is said; the rest is taken: without the rule only the budget refuses.
    gate.rewrite(&config(&budget(6)).replace("ledger_write_ms = 10", "ledger_write_ms = 20"));
    gate.signal(Signal::HUP);
    gate.says("limits.ledger_write_ms").await;
    while gate.said().matches("read the limits again").count() < 2 {
        gate.says_more().await;
    }
    for expected in [200, 429] {
        assert_eq!(status(&mut line).await, expected, "the sixth and last of the budget");
    }

    gate.signal(Signal::TERM);
    assert_eq!(gate.ended().await.0, Some(0));
    let mut again = Program::start(&config(&budget(6)), &[("FAL_KEY", FAL_KEY)]);
    let mut line = Line::to(again.address().await).await;
    assert_eq!(status(&mut line).await, 429, "a restart keeps what was spent");
}

#[tokio::test]
async fn a_gate_that_started_without_limits_can_be_given_some() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let mut gate = Program::start(&fal_at(&fal.url()), &[("FAL_KEY", FAL_KEY)]);
    let mut line = Line::to(gate.address().await).await;
    assert_eq!(status(&mut line).await, 200);
    gate.rewrite(&format!("{}{}", fal_at(&fal.url()), rule("one", 1)));
    gate.signal(Signal::HUP);
    gate.says("read the limits again").await;
    assert_eq!((status(&mut line).await, status(&mut line).await), (200, 429));
    gate.rewrite("this is no TOML");
    gate.signal(Signal::HUP);
    gate.says("kept the limits at hand").await;
    assert_eq!(status(&mut line).await, 429);
}

#[tokio::test]
async fn the_money_of_a_month_is_kept_over_a_restart_without_being_asked_to() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let text = format!(
        "{}[[limits.budget]]\nname = \"month\"\nof = \"requests\"\nby = \"all\"\namount = 2\nper = \"month\"\n",
        fal_at(&fal.url())
    );
    let folder = tempfile::tempdir().unwrap();
    let start = || Program::start_in(folder.path(), &text, &[("FAL_KEY", FAL_KEY)]);
    let mut gate = start();
    let mut line = Line::to(gate.address().await).await;
    for expected in [200, 200, 429] {
        assert_eq!(status(&mut line).await, expected);
    }
    gate.signal(Signal::TERM);
    assert_eq!(gate.ended().await.0, Some(0));
    let mut again = start();
    assert_eq!(status(&mut Line::to(again.address().await).await).await, 429);
    // A gate that cannot keep what is spent does not start.
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("state"), "no folder").unwrap();
    let refused = Program::start_in(other.path(), &text, &[("FAL_KEY", FAL_KEY)]);
    let (code, said) = refused.ended().await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("the ledger of budgets in state/limits.redb cannot be used (limits.ledger)"), "{said}");
}
