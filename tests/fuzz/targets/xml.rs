//! A body that a sender wrote in XML.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    turnstile::fuzzing::xml(bytes);
});
