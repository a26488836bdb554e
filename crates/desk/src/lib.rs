//! The receiving half: inbox, cases, one page.
