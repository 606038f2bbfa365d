//! What a source receives.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    turnstile::fuzzing::frames(bytes);
});
