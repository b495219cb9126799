//! Tokens for sockets, as pages get them: by a POST to the gate's token route.

use std::sync::Mutex;
use std::sync::PoisonError;

use super::arguments::Door;
use super::error::LoadError;
use super::place::Place;
use super::process::exchange;
use super::socket::Socket;

/// Opens sockets at one door, each with a token that not too many others use.
#[derive(Debug)]
pub(crate) struct Opener {
    door: Door,
    current: Mutex<Option<(Place, usize)>>,
}

impl Opener {
    /// Opens nothing yet.
    pub(crate) fn new(mut door: Door) -> Self {
        let authorization = door.key.as_ref().map(|key| format!("Key {key}"));
        match &mut door.tokens {
            Some(tokens) => tokens.authorization = authorization,
            None => door.url.authorization = authorization,
        }
        Self { door, current: Mutex::new(None) }
    }

    /// Opens one more socket.
    pub(crate) async fn open(&self) -> Result<Socket, LoadError> {
        Socket::open(&self.place().await?).await
    }

    /// Where the next socket is opened, token and all.
    pub(crate) async fn place(&self) -> Result<Place, LoadError> {
        let Some(tokens) = &self.door.tokens else { return Ok(self.door.url.clone()) };
        if let Some((place, left)) = &mut *self.current.lock().unwrap_or_else(PoisonError::into_inner)
            && *left > 0
        {
            *left -= 1;
            return Ok(place.clone());
        }
        let place = self.door.url.with_query("fal_jwt_token", &mint(tokens, &self.door.app).await?);
        let left = self.door.sockets_per_token.saturating_sub(1);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((place.clone(), left));
        Ok(place)
    }
}

/// Asks for a token for one app.
async fn mint(tokens: &Place, app: &str) -> Result<String, LoadError> {
    let alias = app.rsplit('/').next().unwrap_or(app);
    let wish = format!(r#"{{"allowed_apps":["{alias}"],"token_expiration":120}}"#);
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{wish}",
        tokens.path,
        tokens.host,
        tokens.authorization_line(),
        wish.len()
    );
    let (status, body) = exchange(tokens, request.as_bytes()).await?;
    serde_json::from_str(&body).map_err(|_| LoadError::Answer(format!("no token but `{status}` {body}")))
}
