//! How a store is reached, and with which secrets.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionInfo, IntoConnectionInfo as _, Script, TlsCertificates};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::lease::Leases;
use super::places::{self, Places};
use super::{Inner, RedisStore};
use crate::guard::limit::error::LimitError;
use crate::guard::limit::settings::LimitSettings;
use crate::guard::limit::store_settings::{LimitStore, RedisSettings};

/// Settlements and returned places that wait for the store. What is more is lost: a debt, with a number; a place, until its
/// lease ends.
const ERRANDS: usize = 4096;
/// Shortest secret under which callers are hashed.
const HASH_KEY_BYTES: usize = 32;

impl RedisStore {
    /// Connects to the store that the settings name; `None` where they want none. `look_up` reads variables, before anything
    /// is waited for. Needs a tokio runtime, on which places are renewed.
    ///
    /// # Errors
    /// [`LimitError`] for a secret that cannot be had, and for a store that does not answer now.
    pub fn connect<F: Fn(&str) -> Option<String>>(
        settings: &LimitSettings,
        look_up: F,
    ) -> impl Future<Output = Result<Option<Self>, LimitError>> + Send + use<F> {
        let way = match settings.store {
            LimitStore::Memory => Ok(None),
            LimitStore::Redis => way(settings, &look_up).map(Some),
        };
        async move {
            match way? {
                Some(way) => way.open().await.map(Some),
                None => Ok(None),
            }
        }
    }
}

/// All that it takes to connect.
struct Way {
    client: Client,
    hash_key: [u8; 32],
    settings: RedisSettings,
}

fn way(settings: &LimitSettings, look_up: &dyn Fn(&str) -> Option<String>) -> Result<Way, LimitError> {
    if let Some((key, why)) = settings.faults().into_iter().next() {
        return Err(LimitError::Setting { key, why });
    }
    let redis = &settings.redis;
    let url = secret("url", (redis.url_env.as_ref(), redis.url_file.as_ref()), look_up)?;
    let hash_key = secret("hash_key", (redis.hash_key_env.as_ref(), redis.hash_key_file.as_ref()), look_up)?;
    if hash_key.expose_secret().len() < HASH_KEY_BYTES {
        let why = format!("holds fewer than {HASH_KEY_BYTES} bytes");
        return Err(LimitError::Setting { key: "redis.hash_key".to_owned(), why });
    }
    let hash_key = Sha256::new().chain_update("falgate limits ").chain_update(hash_key.expose_secret()).finalize();
    Ok(Way { client: client(redis, &url)?, hash_key: hash_key.into(), settings: redis.clone() })
}

fn client(settings: &RedisSettings, url: &SecretString) -> Result<Client, LimitError> {
    let is_no_url = |_| {
        // The cause would show the URL, and with it the password.
        LimitError::Setting { key: "redis.url".to_owned(), why: "is no URL of a Redis".to_owned() }
    };
    let way: ConnectionInfo = url.expose_secret().into_connection_info().map_err(is_no_url)?;
    let patience = Duration::from_millis(settings.connect_ms.get() + settings.timeout_ms.get());
    // A machine that vanished is noticed by what is not acknowledged, not after a quarter of an hour.
    let tcp = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(patience);
    let way = way.set_tcp_settings(tcp);
    let root_cert = settings.ca_file.as_ref().map(|file| {
        let unusable = |cause: std::io::Error| secret_fault("ca_file", file.display().to_string(), cause);
        std::fs::read(file).map_err(unusable)
    });
    match root_cert.transpose()? {
        None => Client::open(way).map_err(|error| LimitError::Store(error.into())),
        Some(pem) => {
            let trust = TlsCertificates { client_tls: None, root_cert: Some(pem) };
            Client::build_with_tls(way, trust).map_err(|error| LimitError::Store(error.into()))
        }
    }
}

fn secret(
    key: &'static str,
    (env, file): (Option<&String>, Option<&PathBuf>),
    look_up: &dyn Fn(&str) -> Option<String>,
) -> Result<SecretString, LimitError> {
    let text = match (env, file) {
        (Some(name), _) => look_up(name).ok_or_else(|| secret_fault(key, name.clone(), "the variable is not set"))?,
        (None, Some(file)) => {
            std::fs::read_to_string(file).map_err(|cause| secret_fault(key, file.display().to_string(), cause))?
        }
        (None, None) => return Err(secret_fault(key, "nothing".to_owned(), "no variable and no file is named")),
    };
    Ok(SecretString::from(text.trim().to_owned()))
}

fn secret_fault(
    key: &'static str,
    place: String,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> LimitError {
    LimitError::Secret { key, place, cause: cause.into() }
}

impl Way {
    async fn open(self) -> Result<RedisStore, LimitError> {
        let ms = Duration::from_millis;
        let (connect, timeout) = (ms(self.settings.connect_ms.get()), ms(self.settings.timeout_ms.get()));
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(connect))
            .set_response_timeout(Some(timeout))
            .set_number_of_retries(1)
            .set_min_delay(ms(50))
            .set_max_delay(ms(1000));
        let unreachable = |error: redis::RedisError| LimitError::Store(error.into());
        let opening = ConnectionManager::new_with_config(self.client, config);
        // Twice: it may try a second time.
        let opened = tokio::time::timeout(connect * 2 + ms(1000), opening).await;
        let mut connection = opened.map_err(|late| LimitError::Store(late.into()))?.map_err(unreachable)?;
        let scripts = [
            include_str!("charge.lua"),
            include_str!("settle.lua"),
            include_str!("hold.lua"),
            include_str!("look.lua"),
            include_str!("reset.lua"),
        ];
        let scripts = scripts.map(Script::new);
        for script in &scripts {
            // A server that is too old, or a user that may not run scripts, is found out now.
            script.prepare_invoke().load_async(&mut connection).await.map_err(unreachable)?;
        }
        let [charge, settle, hold, look, reset] = scripts;
        let (errands, waiting) = mpsc::channel(ERRANDS);
        let store = RedisStore(Arc::new(Inner {
            connection,
            charge,
            settle,
            hold,
            look,
            reset,
            hash_key: self.hash_key,
            prefix: self.settings.prefix,
            timeout,
            place_lease: ms(self.settings.place_lease_ms.get()),
            places: Arc::new(Places::default()),
            leases: Leases::new(&self.settings.lease),
            errands,
            is_down: AtomicBool::new(false),
        }));
        tokio::spawn(places::run_errands(Arc::downgrade(&store.0), waiting));
        tokio::spawn(places::renew(Arc::downgrade(&store.0)));
        Ok(store)
    }
}
