//! What batching by steps promises, on devices that exist in numbers: waits, fairness, and no less work done.

use std::time::Duration;

use falgate::engine::simulation::{Crowd, Device, Policy, Report, simulate};
use falgate::engine::{Costs, Phase};

const SIZE: (u32, u32) = (512, 512);

/// A device whose calls cost this many milliseconds for one row and for eight, for the encoder, a step and the decoder.
fn device(costs: [(f64, f64); 3]) -> Device {
    let mut table = Costs::default();
    for (phase, (one, eight)) in [Phase::Encode, Phase::Step, Phase::Decode].into_iter().zip(costs) {
        for (rows, ms) in [(1, one), (8, eight)] {
            (0..3).for_each(|_| table.note(phase, (SIZE, rows), Duration::from_secs_f64(ms / 1e3)));
        }
    }
    Device { costs: table, rows: 8, size: SIZE }
}

/// A GPU with a small autoencoder, one with a large autoencoder that takes longer than a step, and a processor on which
/// sharing saves nothing.
fn devices() -> [Device; 3] {
    [
        device([(0.5, 2.0), (4.0, 16.0), (0.6, 2.5)]),
        device([(4.0, 24.0), (4.0, 16.0), (9.0, 60.0)]),
        device([(15.0, 120.0), (25.0, 200.0), (26.0, 208.0)]),
    ]
}

fn crowd(painters: usize, seed: u64) -> Crowd {
    Crowd { painters, seed, ..Crowd::default() }
}

fn steps(painters: usize, device: &Device) -> Report {
    simulate(&crowd(painters, 7), device, Policy::Steps)
}

#[test]
fn a_seed_gives_the_same_report_again_and_another_seed_another() {
    for policy in [Policy::OneByOne, Policy::WholeRequests, Policy::Steps] {
        let report = |seed| simulate(&crowd(5, seed), &devices()[0], policy);
        assert_eq!(report(1), report(1));
        assert_ne!(report(1), report(2));
    }
}

#[test]
fn a_newcomer_that_finds_a_place_waits_at_most_one_step() {
    for device in &devices() {
        for painters in [1, 2, 3, 5, 8] {
            let crowd = Crowd { steps: vec![4, 1, 2], ..crowd(painters, 3) };
            let report = simulate(&crowd, device, Policy::Steps);
            assert!(report.longest_wait <= 1, "{painters} painters: {report:?}");
        }
    }
}

#[test]
fn a_newcomer_of_whole_requests_waits_for_a_whole_request() {
    let report = simulate(&crowd(8, 3), &devices()[0], Policy::WholeRequests);
    assert!(report.longest_wait >= 3, "{report:?}");
}

#[test]
fn steps_never_stand_still_longer_than_a_step_takes_where_more_paint_than_there_are_places() {
    // Where the autoencoder takes longer than the steps it keeps places free: newcomers find one and do not wait for two steps,
    // so that as many as there are places may be encoded at once, beside one row to decode.
    let longest = [16.0, 24.0 + 9.0, 200.0];
    for (device, longest) in devices().iter().zip(longest) {
        for painters in [16, 24, 64] {
            let crowd = Crowd { steps: vec![4, 1, 2], ..crowd(painters, 3) };
            let report = simulate(&crowd, device, Policy::Steps);
            assert!(report.longest_stall.as_secs_f64() <= longest / 1e3, "{painters} painters: {report:?}");
        }
    }
}

#[test]
fn every_painters_share_is_within_a_fifth_of_the_mean() {
    for device in &devices() {
        for painters in [2, 3, 8, 16, 64] {
            let report = steps(painters, device);
            assert!(report.fewest >= 0.8 && report.most <= 1.2, "{painters} painters: {report:?}");
        }
    }
}

#[test]
fn painters_with_many_steps_get_their_turns_where_there_are_more_painters_than_places() {
    let crowd = Crowd { steps: vec![1, 8], ..crowd(64, 5) };
    for device in &devices() {
        let report = simulate(&crowd, device, Policy::Steps);
        assert!(report.fewest >= 0.8 && report.most <= 1.2, "{report:?}");
    }
}

#[test]
fn where_sharing_saves_time_eight_painters_get_far_more_than_one_by_one() {
    let device = &devices()[0];
    let [alone, together] =
        [Policy::OneByOne, Policy::Steps].map(|policy| simulate(&crowd(8, 7), device, policy).pictures_per_s);
    assert!(together >= 1.5 * alone, "{together} {alone}");
}

/// Pictures a second by steps, as a share of those by whole requests.
fn share_of_whole_requests(painters: usize, device: &Device) -> f64 {
    let policies = [Policy::Steps, Policy::WholeRequests];
    let [steps, whole] = policies.map(|policy| simulate(&crowd(painters, 7), device, policy).pictures_per_s);
    steps / whole
}

#[test]
fn joining_between_steps_costs_no_pictures_where_the_autoencoder_is_short_beside_a_step() {
    let [small_autoencoder, _, processor] = devices();
    for device in [small_autoencoder, processor] {
        for painters in [1, 2, 4, 8, 16, 64] {
            let share = share_of_whole_requests(painters, &device);
            assert!(share >= 0.97, "{painters} painters: {share}");
        }
    }
}

#[test]
fn joining_between_steps_costs_at_most_a_quarter_where_a_picture_takes_longer_to_decode_than_a_step() {
    for painters in [1, 2, 4, 8, 16, 64] {
        let share = share_of_whole_requests(painters, &devices()[1]);
        assert!(share >= 0.75, "{painters} painters: {share}");
    }
}

#[test]
fn one_painter_loses_nothing_to_anybody() {
    for device in &devices() {
        let [alone, steps] = [Policy::OneByOne, Policy::Steps].map(|policy| simulate(&crowd(1, 7), device, policy));
        assert_eq!((alone.pictures, alone.median), (steps.pictures, steps.median));
    }
}
