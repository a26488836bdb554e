//! A new version of a model takes over between two batches.
//!
//! The new sessions are opened, checked against their card and warmed up beside the old ones, which go on looking. Only
//! when all of them are there does each thread get its own, and it changes over before its next batch. So no look is lost
//! or waits for more than its turn, and a version that fails its check changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use flow::{Detections, Frame, ModelId};

use crate::detector::Runner;
use crate::{LookError, ModelError, Work};

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
