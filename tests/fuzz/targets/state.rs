//! A stored entity, state or record.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    turnstile::fuzzing::state(bytes);
});
