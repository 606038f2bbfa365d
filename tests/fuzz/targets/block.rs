//! A block of the journal.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    turnstile::fuzzing::block(bytes);
});
