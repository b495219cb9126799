//! One field line of a head or of trailers.

use memchr::memchr;

use super::HeadFault;

/// A field line, split and checked: name as sent, value without the white space around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) has_underscore: bool,
}

/// Splits and checks a line that comes without its CR LF.
pub(super) fn split(line: &[u8]) -> Result<Field<'_>, HeadFault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(HeadFault::Folded);
    }
    let colon = memchr(b':', line).ok_or(HeadFault::FieldName)?;
    let name = &line[..colon];
    if name.is_empty() {
        return Err(HeadFault::FieldName);
    }
    let classes = name.iter().fold(0, |all, byte| all | NAME_CLASS[usize::from(*byte)]);
    if classes & BAD != 0 {
        return Err(HeadFault::FieldName);
    }
    let value = &line[colon + 1..];
    // No early exit: this form is the one that compiles to vector instructions.
    if value.iter().fold(false, |bad, byte| bad | (*byte < b' ' && *byte != b'\t') | (*byte == 0x7f)) {
        return Err(HeadFault::FieldValue);
    }
    Ok(Field { name, value: trim(value), has_underscore: classes & UNDERSCORE != 0 })
}

pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

const BAD: u8 = 1;
const UNDERSCORE: u8 = 2;

/// What a byte means in a field name (RFC 9110, 5.6.2).
const NAME_CLASS: [u8; 256] = {
    let mut table = [BAD; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'`' | b'|' | b'~')
        {
            table[byte as usize] = 0;
        }
        byte += 1;
    }
    table[b'_' as usize] = UNDERSCORE;
    table
};

pub(super) const fn is_name_byte(byte: u8) -> bool {
    NAME_CLASS[byte as usize] & BAD == 0
}

/// Whether a `Host` value is a host with an optional port, and nothing else.
pub(in crate::gate::accept) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = memchr(b']', rest) else { return false };
            let inside = &rest[..end];
            if inside.is_empty() || !inside.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')) {
                return false;
            }
            match &rest[end + 1..] {
                [] => return true,
                [b':', port @ ..] => (inside, port),
                _ => return false,
            }
        }
        _ => match memchr(b':', value) {
            Some(colon) => (&value[..colon], &value[colon + 1..]),
            None => (value, &b"80"[..]),
        },
    };
    let in_brackets = value.first() == Some(&b'[');
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let host_fits = !host.is_empty() && host.len() <= 255 && (in_brackets || host.iter().all(named));
    host_fits && (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit)
}

/// Reads a `Content-Length`: digits only, no sign, no list, no leading zero, far from overflow.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    let plain = match value {
        [b'0'] => true,
        [b'0', ..] | [] => false,
        digits => digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit),
    };
    plain.then(|| value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Whether a comma-separated list holds a word, in any case.
pub(super) fn lists(value: &[u8], word: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| trim(part).eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_split_at_the_colon_and_trimmed() {
        let field = split(b"X-One: \t two three \t").unwrap();
        assert_eq!((field.name, field.value, field.has_underscore), (&b"X-One"[..], &b"two three"[..], false));
        assert!(split(b"x_one:").unwrap().has_underscore);
    }

    #[test]
    fn fields_get_the_fault_they_have() {
        let cases: [(&[u8], HeadFault); 8] = [
            (b" folded", HeadFault::Folded),
            (b"\tfolded: yes", HeadFault::Folded),
            (b"no colon", HeadFault::FieldName),
            (b": no name", HeadFault::FieldName),
            (b"host : a", HeadFault::FieldName),
            (b"h\xc3\xbcst: a", HeadFault::FieldName),
            (b"a: b\0c", HeadFault::FieldValue),
            (b"a: b\rc", HeadFault::FieldValue),
        ];
        for (line, fault) in cases {
            assert_eq!(split(line).unwrap_err(), fault, "{}", line.escape_ascii());
        }
        assert!(split("a: größe".as_bytes()).is_ok());
    }

    #[test]
    fn hosts_are_hosts() {
        for host in
            ["a", "gate.test", "gate.test:8443", "127.0.0.1:80", "[::1]", "[::1]:80", "a_b.test", "xn--n8j.test."]
        {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in
            ["", ":80", "a:", "a:b", "a:123456", "u@a", "a/b", "a b", "a,b", "[]", "[::1", "[::1]x", "a:80:80", "[g]"]
        {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn content_lengths_are_plain_numbers() {
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"1024"), Some(1024));
        for value in ["", "+0", "-1", "00", "007", "1,1", "1 1", "0x10", "1e3", "1234567890123456789"] {
            assert_eq!(content_length(value.as_bytes()), None, "{value}");
        }
    }
}
