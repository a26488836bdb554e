//! Coded pictures to pixels, through a fixed pool of decoders.
