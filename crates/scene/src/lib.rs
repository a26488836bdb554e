//! One camera's tracks, rules and situations: a pure state machine.
