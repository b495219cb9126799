//! The secret inside an upload URL: signed, for one file, for a short time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::{BlobId, StorageError};
use crate::wire::PublicOrigin;

const AUDIENCE: &str = "falgate-upload";
const DIRECT_AUDIENCE: &str = "falgate-direct-upload";

/// What an upload URL allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    /// The file that it may fill.
    pub(super) id: BlobId,
    /// The media type that was announced.
    pub(super) content_type: String,
    /// The name that was announced, plain letters only.
    pub(super) name: Option<String>,
    /// How long the file will be kept.
    pub(super) life: Duration,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: String,
    sub: String,
    exp: u64,
    typ: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    life: u64,
}

/// Signs and checks upload URLs with a key that lives as long as the process.
pub(super) struct UploadTokens {
    sign: EncodingKey,
    check: DecodingKey,
}

impl UploadTokens {
    pub(super) fn new() -> Self {
        let key: [u8; 32] = rand::random();
        Self { sign: EncodingKey::from_secret(&key), check: DecodingKey::from_secret(&key) }
    }

    pub(super) fn mint(&self, grant: &Grant, valid: Duration) -> String {
        let until = SystemTime::now() + valid;
        self.mint_until(grant, until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    fn mint_until(&self, grant: &Grant, exp: u64) -> String {
        let claims = Claims {
            aud: AUDIENCE.to_owned(),
            sub: grant.id.to_string(),
            exp,
            typ: grant.content_type.clone(),
            name: grant.name.clone(),
            life: grant.life.as_secs(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.sign)
            .expect("HS256 signs any claims with a key of 32 bytes")
    }

    /// Reads a token for the file `id`.
    ///
    /// # Errors
    /// [`StorageError::Expired`], or [`StorageError::BadToken`] for anything else that is wrong with it.
    pub(super) fn check(&self, token: &str, id: BlobId) -> Result<Grant, StorageError> {
        let claims = self.read::<Claims>(token, (AUDIENCE, &["exp", "aud", "sub"]))?;
        if BlobId::parse(&claims.sub) != Some(id) {
            return Err(StorageError::BadToken(None));
        }
        Ok(Grant { id, content_type: claims.typ, name: claims.name, life: Duration::from_secs(claims.life) })
    }
}

/// What lets a caller upload files of any kind for a while.
#[derive(Serialize, Deserialize)]
struct DirectClaims {
    aud: String,
    exp: u64,
    origin: String,
}

impl UploadTokens {
    /// A token for uploads without an announcement. The files' URLs begin with `origin`.
    pub(super) fn mint_direct(&self, origin: &PublicOrigin, until: SystemTime) -> String {
        let exp = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = DirectClaims { aud: DIRECT_AUDIENCE.to_owned(), exp, origin: origin.0.clone() };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.sign)
            .expect("HS256 signs any claims with a key of 32 bytes")
    }

    /// Reads such a token: the origin of the files' URLs.
    ///
    /// # Errors
    /// [`StorageError::Expired`], or [`StorageError::BadToken`] for anything else that is wrong with it.
    pub(super) fn check_direct(&self, token: &str) -> Result<PublicOrigin, StorageError> {
        let claims = self.read::<DirectClaims>(token, (DIRECT_AUDIENCE, &["exp", "aud"]))?;
        Ok(PublicOrigin(claims.origin))
    }

    fn read<C: serde::de::DeserializeOwned>(
        &self,
        token: &str,
        (audience, required): (&str, &[&str]),
    ) -> Result<C, StorageError> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.leeway = 0;
        rules.set_audience(&[audience]);
        rules.set_required_spec_claims(required);
        let read = jsonwebtoken::decode::<C>(token, &self.check, &rules).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => StorageError::Expired,
            _ => StorageError::BadToken(Some(error)),
        });
        read.map(|read| read.claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        let (content_type, life) = ("image/png".to_owned(), Duration::from_secs(60));
        Grant { id: BlobId::random(), content_type, name: Some("a.png".to_owned()), life }
    }

    #[test]
    fn a_token_opens_its_own_file_only() {
        let (tokens, grant) = (UploadTokens::new(), grant());
        let token = tokens.mint(&grant, Duration::from_secs(10));
        assert_eq!(tokens.check(&token, grant.id).unwrap(), grant);
        assert!(matches!(tokens.check(&token, BlobId::random()), Err(StorageError::BadToken(None))));
        assert!(matches!(UploadTokens::new().check(&token, grant.id), Err(StorageError::BadToken(Some(_)))));
        assert!(matches!(tokens.check_direct(&token), Err(StorageError::BadToken(Some(_)))));
    }

    #[test]
    fn a_token_for_any_file_opens_no_announced_one_and_ends() {
        let (tokens, origin) = (UploadTokens::new(), PublicOrigin("https://draw.example".to_owned()));
        let token = tokens.mint_direct(&origin, SystemTime::now() + Duration::from_secs(10));
        assert_eq!(tokens.check_direct(&token).unwrap().0, origin.0);
        assert!(matches!(tokens.check(&token, BlobId::random()), Err(StorageError::BadToken(_))));
        let expired = tokens.mint_direct(&origin, UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        assert!(matches!(tokens.check_direct(&expired), Err(StorageError::Expired)));
        assert!(matches!(UploadTokens::new().check_direct(&token), Err(StorageError::BadToken(Some(_)))));
    }

    #[test]
    fn an_expired_altered_or_unsigned_token_opens_nothing() {
        let (tokens, grant) = (UploadTokens::new(), grant());
        let expired = tokens.mint_until(&grant, 1_700_000_000);
        assert!(matches!(tokens.check(&expired, grant.id), Err(StorageError::Expired)));
        let good = tokens.mint(&grant, Duration::from_secs(10));
        let (head, signature) = good.rsplit_once('.').unwrap();
        let payload = head.split_once('.').unwrap().1;
        // {"typ":"JWT","alg":"none"}
        let unsigned = format!("eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.{payload}.");
        for bad in [String::new(), "x.y.z".to_owned(), format!("{head}."), format!("{head}x.{signature}"), unsigned] {
            assert!(matches!(tokens.check(&bad, grant.id), Err(StorageError::BadToken(Some(_)))), "{bad}");
        }
    }
}
