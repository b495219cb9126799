//! Until when a caller wants his run to have started (protocol spec 3).

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use super::HostError;

/// In order: the newer name wins.
const HEADERS: [&str; 2] = ["x-fal-request-start-timeout", "x-fal-request-timeout"];
/// Longer waits than a day are no deadline.
const LONGEST: f64 = 86_400.0;

/// Reads the deadline, counted from `arrived`. `None` without a header.
///
/// # Errors
/// [`HostError::TimeoutHeader`] for a header that is no positive number of seconds: to ignore it would be to wait for
/// ever on somebody who said that he will not.
pub(super) fn start_by(headers: &HeaderMap, arrived: Instant) -> Result<Option<Instant>, HostError> {
    let Some((header, value)) = HEADERS.iter().find_map(|name| headers.get(*name).map(|value| (*name, value))) else {
        return Ok(None);
    };
    let seconds = value.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok());
    match seconds {
        Some(seconds) if seconds.is_finite() && seconds > 0.0 => {
            Ok(Some(arrived + Duration::from_secs_f64(seconds.min(LONGEST))))
        }
        _ => Err(HostError::TimeoutHeader { header }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_is_a_number_of_seconds_under_either_name() {
        let now = Instant::now();
        let read = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            start_by(&headers, now).map(|until| until.map(|until| until - now)).ok()
        };
        let seconds = |seconds| Some(Some(Duration::from_secs_f64(seconds)));
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&[("x-fal-request-timeout", "5.0")]), seconds(5.0));
        assert_eq!(read(&[("x-fal-request-timeout", "2"), ("x-fal-request-start-timeout", "0.5")]), seconds(0.5));
        assert_eq!(read(&[("x-fal-request-timeout", "1e300")]), seconds(86_400.0));
        for odd in ["", "soon", "0", "-1", "NaN", "inf", "5s"] {
            assert_eq!(read(&[("x-fal-request-timeout", odd)]), None, "{odd}");
        }
    }
}
