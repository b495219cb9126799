//! A device that takes a fixed time and none of this machine's: it sleeps as a processor does that waits for a GPU, and gives
//! each picture back as it came. The fake of the library computes its pictures, which would be measured too.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use falgate::engine::{
    Backend, BackendError, EncodeRow, FakeSettings, FakeTokenizer, Latents, ModelFacts, Opened, Picture, StepRow,
    TextRow, TokenIds,
};

/// The device.
struct Sleeper {
    facts: ModelFacts,
    batch: Duration,
}

/// Opens a device on which a batch takes so long, whatever its rows and steps.
pub(crate) fn open(batch: Duration) -> Opened {
    let facts = FakeSettings::default().facts;
    let tokenizer = Box::new(FakeTokenizer::new(facts.prompt_tokens));
    Opened { backend: Box::new(Sleeper { facts, batch }), tokenizer }
}

impl Backend for Sleeper {
    fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    fn embed(&mut self, prompts: &[&TokenIds]) -> Result<Vec<TextRow>, BackendError> {
        Ok(prompts.iter().map(|_| TextRow(Arc::new(()))).collect())
    }

    fn encode(&mut self, rows: &[EncodeRow<'_>]) -> Result<Vec<Latents>, BackendError> {
        let (width, height) = (self.facts.latent_factor, self.facts.latent_factor);
        let kept = |row: &EncodeRow<'_>| Latents {
            width: row.picture.width() / width,
            height: row.picture.height() / height,
            data: Box::new(row.picture.clone()),
        };
        Ok(rows.iter().map(kept).collect())
    }

    fn step(&mut self, _: &mut [StepRow<'_>]) -> Result<(), BackendError> {
        Ok(())
    }

    /// All the time of a batch is spent here.
    fn decode(&mut self, rows: &[&Latents]) -> Result<Vec<Picture>, BackendError> {
        thread::sleep(self.batch);
        rows.iter().map(|row| row.data.downcast_ref().cloned().ok_or(BackendError::Foreign)).collect()
    }

    fn read_latents(&mut self, _: &Latents) -> Result<Vec<f32>, BackendError> {
        Err(BackendError::Foreign)
    }

    fn read_text(&mut self, _: &TextRow) -> Result<Vec<f32>, BackendError> {
        Err(BackendError::Foreign)
    }
}
