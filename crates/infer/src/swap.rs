//! A new version of a model takes over between two batches.
//!
//! The new sessions are opened, checked against their card and warmed up beside the old ones, which go on looking. Only
//! when all of them are there does each thread get its own, and it changes over before its next batch. So no look is lost
//! or waits for more than its turn, and a version that fails its check changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use fleet::ModelCard;
use flow::{Detections, Frame, ModelId};

use crate::calibrate::Sizing;
use crate::detector::Runner;
use crate::tiles::{Tiled, TilesOf};
use crate::{LookError, Model, ModelError, Runtime, Work};

/// Why a new version did not take over. The old one goes on.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// No camera is looked at with a model of this name.
    #[error("no model {model} is in use here (in use: {})", .in_use.iter().map(ModelId::as_str).collect::<Vec<_>>().join(", "))]
    NotInUse {
        /// The new version's id.
        model: ModelId,
        /// The ids in use.
        in_use: Vec<ModelId>,
    },
    /// It cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Opens the models of a stage, at the start and again for each new version, always in the same way.
pub(crate) struct Versions {
    pub runtime: Runtime,
    pub sizing: Sizing,
    /// Pictures that a model is given at once at most.
    pub max_batch: usize,
    pub tiles_of: TilesOf,
    /// Per model, one for each thread.
    seats: Vec<(ModelId, Vec<Seat>)>,
}

impl Versions {
    pub fn new(runtime: Runtime, sizing: Sizing, max_batch: usize, tiles_of: TilesOf) -> Self {
        Self { runtime, sizing, max_batch, tiles_of, seats: Vec::new() }
    }

    /// Opens every model for every thread: for each thread, one runner of each model.
    pub fn crews(&mut self, cards: &[Arc<ModelCard>]) -> Result<Vec<Vec<Box<dyn Runner>>>, ModelError> {
        let mut crews = Vec::with_capacity(self.sizing.sessions);
        let mut seats: Vec<_> = cards.iter().map(|card| (card.id.clone(), Vec::new())).collect();
        for _ in 0..self.sizing.sessions {
            let mut crew: Vec<Box<dyn Runner>> = Vec::with_capacity(cards.len());
            for (card, (_, seats)) in cards.iter().zip(&mut seats) {
                let seat = Seat::default();
                crew.push(Box::new(Changing { current: self.open(card)?, seat: seat.clone() }));
                seats.push(seat);
            }
            crews.push(crew);
        }
        self.seats = seats;
        Ok(crews)
    }

    /// Opens a new version for every thread and, once all are there, leaves them where the threads find them.
    pub fn swap(&self, card: ModelCard) -> Result<(), SwapError> {
        let Some((_, seats)) = self.seats.iter().find(|(model, _)| *model == card.id) else {
            let in_use = self.seats.iter().map(|(model, _)| model.clone()).collect();
            return Err(SwapError::NotInUse { model: card.id, in_use });
        };
        let card = Arc::new(card);
        let opened: Vec<_> = seats.iter().map(|_| self.open(&card)).collect::<Result<_, _>>()?;
        seats.iter().zip(opened).for_each(|(seat, runner)| seat.put(runner));
        Ok(())
    }

    fn open(&self, card: &Arc<ModelCard>) -> Result<Box<dyn Runner>, ModelError> {
        let mut model = Model::open_with(&self.runtime, card.clone(), self.sizing.threads)?;
        let run = self.sizing.run.iter().filter(|(id, _)| *id == card.id);
        run.for_each(|(_, run)| model.set_per_run(*run));
        let (input, nms_iou) = ((card.width, card.height), card.thresholds.nms_iou);
        Ok(Box::new(Tiled::new(model, input, nms_iou, self.max_batch, self.tiles_of.clone())))
    }
}

/// Where a thread finds the runner that is to take over from the one that it has.
#[derive(Clone, Default)]
pub(crate) struct Seat(Arc<Mutex<Option<Box<dyn Runner>>>>);

impl Seat {
    /// Leaves a runner for the thread. One that was left before and not yet taken is replaced.
    pub fn put(&self, runner: Box<dyn Runner>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(runner);
    }

    fn take(&self) -> Option<Box<dyn Runner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A thread's runner of one model, whichever version that is.
pub(crate) struct Changing {
    current: Box<dyn Runner>,
    seat: Seat,
}

impl Changing {
    /// Begins with this one; the next is found in the seat.
    pub fn new(current: Box<dyn Runner>, seat: Seat) -> Self {
        Self { current, seat }
    }
}

impl Runner for Changing {
    fn look(&mut self, frames: &[&Frame]) -> Result<Vec<Detections>, LookError> {
        if let Some(next) = self.seat.take() {
            self.current = next;
        }
        self.current.look(frames)
    }

    fn take_work(&mut self) -> Work {
        self.current.take_work()
    }
}
