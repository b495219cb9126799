//! The key reaches fal's header and nothing else: no log line, no error, no debug text, no answer.

use http_body_util::BodyExt;
use tracing::instrument::WithSubscriber;

use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::log::Log;
use crate::support::proxy_stack::{CANARY, open, open_stack, post, send, stack, upstream};
use crate::support::raw_fal::{RawFal, Then};

const RUN: &str = "https://fal.run/fal-ai/flux/dev";

#[tokio::test]
async fn the_key_is_in_no_log_error_debug_text_or_answer() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let good = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let away = upstream("http://127.0.0.1:1");
    let broken = RawFal::start(b"nonsense\r\n\r\n", Then::Close).await;
    let mut said = String::new();
    async {
        for stack in [open_stack(&good.url()), stack(open(), away), open_stack(&broken.url())] {
            said += &format!("{stack:?}");
            for target in [RUN, "https://evil.test/"] {
                let answer = send(&stack, post(target, "{\"prompt\":\"canary-prompt\"}")).await;
                said += &format!("{answer:?}");
                said += &format!("{:?}", answer.into_body().collect().await);
            }
        }
    }
    .with_subscriber(subscriber)
    .await;
    assert_eq!(good.only().header("authorization"), Some(format!("Key {CANARY}").as_str()));
    let log = log.text();
    assert!(log.contains("a call to fal has no answer"), "the log was listened to");
    for text in [log, said] {
        assert!(!text.contains("canary"), "{text}");
    }
}
