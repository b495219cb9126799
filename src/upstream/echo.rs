//! Whether a text from outside repeats a secret.

/// So many bytes of a secret in a row are a part of it.
const RUN: usize = 12;

/// Whether `text` holds `secret`, or a part of it: a text whose length is limited cuts what it repeats.
pub(super) fn repeats(text: &str, secret: &str) -> bool {
    let run = RUN.min(secret.len());
    run > 0 && secret.as_bytes().windows(run).any(|part| text.as_bytes().windows(run).any(|said| said == part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_and_a_long_part_of_it_are_found_and_nothing_else_is() {
        for text in ["a-secret-of-many-letters", "no user for a-secret-of-", "key of-many-letters?", "(t-of-many-let"] {
            assert!(repeats(text, "a-secret-of-many-letters"), "{text}");
        }
        for text in ["", "secret", "many letters", "a-secret-of"] {
            assert!(!repeats(text, "a-secret-of-many-letters"), "{text}");
        }
        assert!(repeats("it was hush", "hush") && !repeats("it was hus", "hush") && !repeats("anything", ""));
    }
}
