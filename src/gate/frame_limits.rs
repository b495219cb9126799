//! The guard's limits, for inputs on sockets: on those that the engine answers, and on those that are relayed.

use std::future::ready;
use std::time::Duration;

use http::Request;

use crate::guard::{Cost, Dimension, Limits, Prices, Receipt, Refusal, Subject, subject_of};
use crate::host::realtime::{FrameAsk, FrameBudget, FrameCharge, FrameReceipt, OverBudget};
use crate::upstream::{EachInput, InputAccount, InputBudget};
use crate::wire::Body;

/// How long a page waits that asks for what is never allowed: it may as well not ask again.
const NEVER: Duration = Duration::from_secs(86_400);

/// Charges each input to its caller's shares, as the limits charge calls.
#[derive(Debug)]
pub(super) struct FrameLimits {
    pub(super) limits: Limits,
    pub(super) prices: Prices,
}

fn wait(refusal: &Refusal) -> Duration {
    refusal.wait().unwrap_or(NEVER)
}

impl FrameBudget for FrameLimits {
    fn came(&self, subject: &Subject, bytes: u64) -> Result<(), OverBudget> {
        if self.limits.are_off() {
            return Ok(());
        }
        let cost = Cost::ZERO.with_cells(Dimension::Bytes, bytes);
        let charged = self.limits.charge(subject, cost, None).map(drop);
        charged.map_err(|refusal| OverBudget { wait: wait(&refusal) })
    }

    fn charge(&self, ask: &FrameAsk<'_>) -> FrameCharge {
        if self.limits.are_off() {
            return Box::pin(ready(Ok(None)));
        }
        let cost = self.prices.frame(ask.subject.endpoint.as_ref(), ask.pictures);
        let answer = |charged: Result<Receipt, Refusal>| match charged {
            Ok(receipt) => Ok(Some(Box::new(Charged(receipt)) as Box<dyn FrameReceipt>)),
            Err(refusal) => Err(OverBudget { wait: wait(&refusal) }),
        };
        if !self.limits.is_shared() {
            return Box::pin(ready(answer(self.limits.charge(ask.subject, cost, None))));
        }
        let (limits, subject) = (self.limits.clone(), ask.subject.clone());
        Box::pin(async move { answer(limits.charge_soon(&subject, cost, None).await) })
    }
}

/// What an input of an engine's socket was charged.
struct Charged(Receipt);

impl FrameReceipt for Charged {
    fn superseded(mut self: Box<Self>) {
        self.0.settle(Cost::ZERO);
    }

    fn unrendered(mut self: Box<Self>) {
        self.0.settle_without_work();
    }
}

impl InputBudget for FrameLimits {
    fn account(&self, handshake: &Request<Body>, each: EachInput) -> Option<Box<dyn InputAccount>> {
        if self.limits.are_off() {
            return None;
        }
        let subject = subject_of(handshake);
        let mut one = self.prices.frame(subject.endpoint.as_ref(), 1);
        if each == EachInput::Unknown {
            one = one.with_cells(Dimension::Pictures, 0);
        }
        Some(Box::new(Account { limits: self.limits.clone(), subject, one, last: None, unanswered: 0 }))
    }
}

/// What the inputs of one relayed socket are charged to.
#[derive(Debug)]
struct Account {
    limits: Limits,
    subject: Subject,
    /// What an input is expected to cost, without its bytes.
    one: Cost,
    /// The charge of the newest input, to be put right.
    last: Option<Box<Receipt>>,
    /// Inputs that went on and have no answer.
    unanswered: u64,
}

impl InputAccount for Account {
    fn begin(&mut self, bytes: u64) -> Result<(), Duration> {
        // An empty first part counts as a byte, so that the parts after it have a share to be charged to.
        let cost = self.one.with_cells(Dimension::Bytes, bytes.max(1));
        let receipt = self.limits.charge(&self.subject, cost, None).map_err(|refusal| wait(&refusal))?;
        self.last = Some(Box::new(receipt));
        self.unanswered += 1;
        Ok(())
    }

    fn go_on(&mut self, bytes: u64) {
        let Some(receipt) = &mut self.last else { return };
        let cost = receipt.cost();
        receipt.settle(cost.with_cells(Dimension::Bytes, cost.cells(Dimension::Bytes).saturating_add(bytes)));
    }

    fn begin_again(&mut self, bytes: u64) -> Result<(), Duration> {
        self.unanswered = 0;
        self.begin(bytes)
    }

    fn unsent(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if let Some(mut receipt) = self.last.take() {
            receipt.settle_without_work();
        }
    }

    fn results(&mut self, count: u64) {
        // Inputs that an app leaves out in favour of newer ones stay charged: nobody here can tell which those are.
        let more = count.saturating_sub(self.unanswered);
        self.unanswered = self.unanswered.saturating_sub(count);
        let Some(receipt) = self.last.as_mut().filter(|_| more > 0) else { return };
        let work = [Dimension::Pictures, Dimension::GpuMs, Dimension::Cents];
        let real = work.into_iter().fold(receipt.cost(), |cost, of| {
            cost.with_cells(of, cost.cells(of).saturating_add(self.one.cells(of).saturating_mul(more)))
        });
        receipt.settle(real);
    }

    fn failures(&mut self, count: u64) {
        let left = self.unanswered.saturating_sub(count);
        let was_the_newest = left == 0 && self.unanswered > 0 && count > 0;
        self.unanswered = left;
        if let Some(receipt) = self.last.as_mut().filter(|_| was_the_newest) {
            receipt.settle_without_work();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::guard::{Caller, ClientAddr, LimitSettings, Tier};
    use crate::wire::{AllowedTargets, Door, EndpointPattern, HostClass, PlainPath, TargetSettings};

    const DAY: u64 = 86_400_000;

    fn limits(settings: serde_json::Value) -> FrameLimits {
        let settings: LimitSettings = serde_json::from_value(settings).unwrap();
        FrameLimits { limits: Limits::open(&settings).unwrap(), prices: Prices::new(&settings) }
    }

    fn rule(of: &str, amount: u32) -> serde_json::Value {
        json!({"name": of, "of": of, "by": "all", "amount": amount, "per_ms": DAY})
    }

    fn handshake() -> Request<Body> {
        let endpoints = vec![EndpointPattern::parse("**").unwrap()];
        let allowed = AllowedTargets::new(TargetSettings { endpoints, ..TargetSettings::default() });
        let plain = PlainPath {
            class: HostClass::Run,
            legacy_label: None,
            method: &http::Method::GET,
            path_and_query: "/fal-ai/lcm/realtime",
            door: Door::Socket,
        };
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(allowed.admit_path(&plain).unwrap());
        request.extensions_mut().insert(ClientAddr("203.0.113.7".parse().unwrap()));
        request
    }

    fn begun(account: &mut Box<dyn InputAccount>, bytes: u64, times: usize) -> usize {
        (0..times).filter(|_| account.begin(bytes).is_ok()).count()
    }

    #[test]
    fn each_dimension_bounds_the_inputs_of_a_relayed_socket() {
        let price = json!([{"endpoints": ["**"], "pictures": 2, "cents": 0.5}]);
        for (of, amount, inputs) in [("frames", 3, 3), ("bytes", 250, 2), ("pictures", 5, 2), ("cents", 2, 4)] {
            let limits = limits(json!({"rule": [rule(of, amount)], "cost": price}));
            let mut account = limits.account(&handshake(), EachInput::Picture).unwrap();
            assert_eq!(begun(&mut account, 100, 9), inputs, "{of}");
        }
        let limits = limits(json!({"rule": [rule("pictures", 1)]}));
        let mut account = limits.account(&handshake(), EachInput::Unknown).unwrap();
        assert_eq!(begun(&mut account, 1, 9), 9, "nobody knows that they make pictures");
    }

    #[test]
    fn a_sockets_inputs_are_charged_to_the_tier_that_its_handshake_says() {
        let pro = json!({"name": "pro", "of": "frames", "by": "caller", "amount": 5, "per_ms": DAY, "tiers": ["pro"]});
        let rest =
            json!({"name": "rest", "of": "frames", "by": "caller", "amount": 1, "per_ms": DAY, "tiers": ["anonymous"]});
        let limits = limits(json!({"rule": [pro, rest]}));
        let mut request = handshake();
        let mut nobody = limits.account(&request, EachInput::Picture).unwrap();
        request.extensions_mut().insert(Caller { name: "ann".into() });
        request.extensions_mut().insert(Tier("pro".into()));
        let mut ann = limits.account(&request, EachInput::Picture).unwrap();
        assert_eq!((begun(&mut nobody, 1, 9), begun(&mut ann, 1, 9)), (1, 5));
    }

    #[test]
    fn what_an_input_turns_out_to_cost_is_put_right() {
        let fresh = || {
            let limits = limits(json!({"rule": [rule("pictures", 4)]}));
            limits.account(&handshake(), EachInput::Picture).unwrap()
        };
        let mut account = fresh();
        account.begin(1).unwrap();
        account.unsent();
        account.begin(1).unwrap();
        account.failures(1);
        assert_eq!(begun(&mut account, 1, 9), 4, "neither made a picture");
        let mut account = fresh();
        account.begin(1).unwrap();
        account.results(1);
        account.results(2);
        assert_eq!(begun(&mut account, 1, 9), 1, "one input made three pictures");
        let mut account = fresh();
        assert_eq!(begun(&mut account, 1, 3), 3);
        account.results(1);
        account.failures(1);
        assert_eq!(begun(&mut account, 1, 9), 1, "what is left out for newer inputs stays charged");
    }

    #[test]
    fn an_input_that_is_sent_again_costs_as_much_again() {
        let limits = limits(json!({"rule": [rule("pictures", 3)]}));
        let mut account = limits.account(&handshake(), EachInput::Picture).unwrap();
        assert_eq!(begun(&mut account, 1, 2), 2);
        account.begin_again(1).unwrap();
        assert!(account.begin_again(1).is_err(), "and no more than is left");
        account.results(1);
        assert!(account.begin(1).is_err(), "an answer to it is no answer beyond the estimate");
    }

    #[test]
    fn parts_of_an_input_that_has_begun_become_a_debt() {
        let limits = limits(json!({"rule": [rule("bytes", 100)]}));
        let mut account = limits.account(&handshake(), EachInput::Picture).unwrap();
        account.begin(0).unwrap();
        account.go_on(1000);
        account.go_on(1000);
        let wait = account.begin(1).unwrap_err();
        assert!(wait.as_secs() > 18 * 86_400, "{wait:?}");
    }
}
