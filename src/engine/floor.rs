//! The rows that are under way: whose row is whose, who already has what, and who has gone.

use std::time::{Duration, Instant};

use super::costs::{Phase, Size};
use super::plan::{Checking, Running, Waiting};
use super::queued::{Answer, Queued};
use super::recipe::Recipe;
use super::row::Row;
use super::{Done, EngineError, Lane, ModelFacts, Picture, SafetyCheck, TextRow, Timings};

/// The rows that are under way, and the jobs that they are of. Jobs have rows here, or some that have not begun.
#[derive(Default)]
pub(super) struct Floor {
    guests: Vec<Guest>,
    rows: Vec<Standing>,
    painted: Vec<Painted>,
}

/// A job with a row that has begun. Without an answer it is over, and leaves with its rows before the next call.
struct Guest {
    id: u64,
    recipe: Recipe,
    text: TextRow,
    since: Instant,
    /// The turn that all lanes had come to when it came.
    turn: u64,
    /// Devices that failed while it was on its way.
    failures: u8,
    answer: Option<Answer>,
    /// What is done, with the checker's flag.
    pictures: Vec<Option<(Picture, bool)>>,
    timings: Timings,
    /// Rows that have begun.
    begun: usize,
}

/// A row under way, and the job and place among the job's pictures that it is for.
pub(super) struct Standing {
    guest: u64,
    place: usize,
    lane: Lane,
    turn: u64,
    row: Row,
    safety: SafetyCheck,
    /// The UNet call that was the last when this row was last in a call.
    last_call: u64,
}

/// A decoded picture that waits for its safety check.
struct Painted {
    guest: u64,
    place: usize,
    picture: Picture,
    /// The UNet call that was the last when it was decoded.
    last_call: u64,
}

impl Standing {
    pub(super) const fn row_mut(&mut self) -> &mut Row {
        &mut self.row
    }

    /// Whose row it is, and the turn that all lanes had come to when its job came.
    pub(super) const fn turn(&self) -> (Lane, u64) {
        (self.lane, self.turn)
    }
}

impl Floor {
    /// Takes a job whose first row begins now; its prompt took `embed`.
    pub(super) fn seat(&mut self, queued: Queued, text: TextRow, (now, embed): (Instant, Duration)) {
        let Queued { id, recipe, since, turn, failures, answer, .. } = queued;
        self.guests.push(Guest {
            id,
            text,
            since,
            turn,
            failures,
            answer: Some(answer),
            pictures: vec![None; recipe.seeds.len()],
            timings: Timings { queued: now.saturating_duration_since(since), encode: embed, ..Timings::default() },
            recipe,
            begun: 0,
        });
    }

    /// Makes the next row of a job; it stands on the floor once it is encoded.
    pub(super) fn begin(&mut self, id: u64, facts: &ModelFacts, calls: u64) -> Option<Standing> {
        let guest = self.guests.iter_mut().find(|guest| guest.id == id)?;
        let place = guest.begun;
        let seed = *guest.recipe.seeds.get(place)?;
        guest.begun += 1;
        let row = Row::new(&guest.recipe, seed, guest.text.clone(), facts);
        let (lane, safety, turn) = (guest.recipe.lane, guest.recipe.safety, guest.turn);
        Some(Standing { guest: id, place, lane, turn, row, safety, last_call: calls })
    }

    /// Takes rows that were encoded.
    pub(super) fn stand(&mut self, rows: Vec<Standing>) {
        self.rows.extend(rows);
    }

    /// The jobs with rows that have not begun, each with its number.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (u64, Waiting)> {
        self.guests.iter().filter(|guest| guest.begun < guest.recipe.seeds.len()).map(|guest| {
            let rows = guest.recipe.seeds.len() - guest.begun;
            let of_recipe = guest.recipe.waiting(guest.since);
            (guest.id, Waiting { rows, start_by: None, begun: true, turn: guest.turn, ..of_recipe })
        })
    }

    /// The rows under way, after `calls` UNet calls.
    pub(super) fn running(&self, calls: u64) -> Vec<Running> {
        let running = |standing: &Standing| Running {
            size: standing.row.size(),
            timestep: standing.row.timestep().unwrap_or(0),
            steps_left: standing.row.steps_left(),
            waited: calls.saturating_sub(standing.last_call),
            safety: standing.safety,
        };
        self.rows.iter().map(running).collect()
    }

    /// The pictures that wait for their check, after `calls` UNet calls.
    pub(super) fn checking(&self, calls: u64) -> Vec<Checking> {
        let checking = |painted: &Painted| Checking { waited: calls.saturating_sub(painted.last_call) };
        self.painted.iter().map(checking).collect()
    }

    /// The lanes of the jobs here.
    pub(super) fn lanes(&self) -> impl Iterator<Item = Lane> {
        self.guests.iter().map(|guest| guest.recipe.lane)
    }

    /// The rows at `indices`, ascending.
    pub(super) fn picked(&mut self, indices: &[usize]) -> Vec<&mut Row> {
        let rows = self.rows.iter_mut().enumerate().filter(|(index, _)| indices.contains(index));
        rows.map(|(_, standing)| &mut standing.row).collect()
    }

    /// The rows at `indices`, ascending, to be read.
    pub(super) fn looked_at(&self, indices: &[usize]) -> Vec<&Row> {
        indices.iter().map(|index| &self.rows[*index].row).collect()
    }

    /// The size of the row at `index`, which all rows of a call have.
    pub(super) fn size(&self, index: usize) -> Size {
        self.rows.get(index).map_or((0, 0), |standing| standing.row.size())
    }

    /// Writes time down for the jobs that own the rows at `indices`, once each, and the call that they were in.
    pub(super) fn spent(&mut self, indices: &[usize], (phase, time): (Phase, Duration), calls: u64) {
        for index in indices {
            self.rows[*index].last_call = calls;
        }
        let rows: Vec<&Standing> = indices.iter().map(|index| &self.rows[*index]).collect();
        spent(&mut self.guests, &rows, (phase, time));
    }

    /// Writes the time of encoding down for the jobs that own `rows`, once each.
    pub(super) fn encoded(&mut self, rows: &[Standing], time: Duration) {
        let rows: Vec<&Standing> = rows.iter().collect();
        spent(&mut self.guests, &rows, (Phase::Encode, time));
    }

    /// Takes the pictures of the rows at `indices`, ascending. Those that want a check wait for it; the last picture of a job
    /// answers it.
    pub(super) fn finish(&mut self, indices: &[usize], pictures: Vec<Picture>) {
        for (index, picture) in indices.iter().zip(pictures) {
            let Standing { guest, place, safety, last_call, .. } = self.rows[*index];
            match safety {
                SafetyCheck::Wanted => self.painted.push(Painted { guest, place, picture, last_call }),
                SafetyCheck::Skipped => self.show((guest, place), (picture, false)),
            }
        }
        leave(&mut self.rows, indices);
    }

    /// The pictures at `indices` among those that wait for their check.
    pub(super) fn painted(&self, indices: &[usize]) -> Vec<&Picture> {
        indices.iter().map(|index| &self.painted[*index].picture).collect()
    }

    /// Takes the checker's flags for the pictures at `indices`, ascending, and the time that it took.
    pub(super) fn checked(&mut self, indices: &[usize], (flags, time): (&[bool], Duration)) {
        let owners: Vec<u64> = indices.iter().map(|index| self.painted[*index].guest).collect();
        for guest in self.guests.iter_mut().filter(|guest| owners.contains(&guest.id)) {
            guest.timings.check += time;
        }
        let mut painted: Vec<Option<Painted>> = std::mem::take(&mut self.painted).into_iter().map(Some).collect();
        for (index, flag) in indices.iter().zip(flags) {
            let Some(Painted { guest, place, picture, .. }) = painted[*index].take() else { continue };
            let picture = if *flag { picture.blackened() } else { picture };
            self.show((guest, place), (picture, *flag));
        }
        self.painted = painted.into_iter().flatten().collect();
    }

    /// Gives the jobs up that own the pictures at `indices` among those that wait for their check.
    pub(super) fn give_up_checks(&mut self, indices: &[usize]) -> Vec<Queued> {
        let ids: Vec<u64> = indices.iter().map(|index| self.painted[*index].guest).collect();
        self.give_up_jobs(&ids)
    }

    /// Gives a job one of its pictures; the last one answers it.
    fn show(&mut self, (id, place): (u64, usize), picture: (Picture, bool)) {
        let Some(guest) = self.guests.iter_mut().find(|guest| guest.id == id) else { return };
        guest.pictures[place] = Some(picture);
        if guest.pictures.iter().all(Option::is_some)
            && let Some(answer) = guest.answer.take()
        {
            let (pictures, flagged) = std::mem::take(&mut guest.pictures).into_iter().flatten().unzip();
            answer.give(Ok(Done { pictures, flagged, timings: guest.timings }));
        }
    }

    /// Gives the jobs up that own the rows at `indices`.
    pub(super) fn give_up(&mut self, indices: &[usize]) -> Vec<Queued> {
        let ids: Vec<u64> = indices.iter().map(|index| self.rows[*index].guest).collect();
        self.give_up_jobs(&ids)
    }

    /// Gives the jobs up that own `rows`.
    pub(super) fn give_up_rows(&mut self, rows: &[Standing]) -> Vec<Queued> {
        let ids: Vec<u64> = rows.iter().map(|standing| standing.guest).collect();
        self.give_up_jobs(&ids)
    }

    /// Gives every job up that is not over.
    pub(super) fn give_up_all(&mut self) -> Vec<Queued> {
        let ids: Vec<u64> = self.guests.iter().map(|guest| guest.id).collect();
        self.give_up_jobs(&ids)
    }

    /// Takes jobs away as they were before they began. Their rows leave before the next call.
    fn give_up_jobs(&mut self, ids: &[u64]) -> Vec<Queued> {
        let given_up = self.guests.extract_if(.., |guest| ids.contains(&guest.id));
        given_up.filter_map(Guest::unbegun).collect()
    }

    /// Ends the jobs of a lane that are older than the job `by`.
    pub(super) fn supersede(&mut self, lane: Lane, by: u64) {
        for guest in self.guests.iter_mut().filter(|guest| guest.recipe.lane == lane && guest.id < by) {
            guest.end(EngineError::Superseded);
        }
    }

    /// Takes away whoever has gone, and all that is over.
    pub(super) fn sweep(&mut self) {
        for guest in &mut self.guests {
            if let Some(answer) = guest.answer.take_if(|answer| answer.is_unwanted()) {
                answer.drop_unwanted();
            }
        }
        self.guests.retain(|guest| guest.answer.is_some());
        let guests = &self.guests;
        self.rows.retain(|standing| guests.iter().any(|guest| guest.id == standing.guest));
        self.painted.retain(|painted| guests.iter().any(|guest| guest.id == painted.guest));
    }
}

impl Guest {
    /// The job as it was before it began, but for its deadline, which it has kept; `None` where it is over.
    fn unbegun(self) -> Option<Queued> {
        let Self { id, recipe, since, turn, failures, answer, .. } = self;
        let recipe = Recipe { start_by: None, ..recipe };
        let failures = failures.saturating_add(1);
        Some(Queued { id, recipe, since, calls: 0, placed: 0, turn, failures, answer: answer? })
    }

    fn end(&mut self, error: EngineError) {
        if let Some(answer) = self.answer.take() {
            answer.give(Err(error));
        }
    }
}

/// Writes time down for the jobs that own `rows`, once each.
fn spent(guests: &mut [Guest], rows: &[&Standing], (phase, time): (Phase, Duration)) {
    for guest in guests.iter_mut().filter(|guest| rows.iter().any(|standing| standing.guest == guest.id)) {
        *match phase {
            Phase::Encode => &mut guest.timings.encode,
            Phase::Step => &mut guest.timings.steps,
            Phase::Decode => &mut guest.timings.decode,
            Phase::Check => &mut guest.timings.check,
        } += time;
    }
}

/// Takes the rows at `indices` away.
fn leave(rows: &mut Vec<Standing>, indices: &[usize]) {
    let mut index = 0;
    rows.retain(|_| {
        index += 1;
        !indices.contains(&(index - 1))
    });
}
