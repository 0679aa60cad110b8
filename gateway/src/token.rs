//! Page and resume tokens: opaque to clients, and useless with any request but the one they were made for.
//!
//! A token is base64url of a checksum and a message. The checksum covers purpose, tenant and the request's other
//! fields, so that a token of another customer's list, or a damaged one, is told from a good one. It is no
//! signature and needs none: what a token says only moves a query along rows that its caller may read anyway.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use prost::Message;
use shopstream_domain::TenantId;
use xxhash_rust::xxh3::Xxh3;

use crate::failure::Failure;
use crate::positions::LogName;

const CHECKSUM: usize = 8;

/// What a token belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    digest: u64,
    field: &'static str,
}

impl Scope {
    /// The tokens of `method` for this tenant and `request`, in which the fields that may change from call to call
    /// are cleared. `field` is where the token stands in the request.
    pub(crate) fn new(method: &str, field: &'static str, tenant: &TenantId, request: &impl Message) -> Self {
        let mut hash = Xxh3::new();
        for part in [method.as_bytes(), tenant.as_str().as_bytes()] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(&request.encode_to_vec());
        Self { digest: hash.digest(), field }
    }

    /// A token that says `message`.
    pub(crate) fn seal(self, message: &impl Message) -> String {
        let mut bytes = vec![0; CHECKSUM];
        message.encode(&mut bytes).expect("a vector has room");
        let checksum = self.checksum(&bytes[CHECKSUM..]);
        bytes[..CHECKSUM].copy_from_slice(&checksum);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What `token` says.
    ///
    /// # Errors
    /// It is not ours, or was made for another request.
    pub(crate) fn open<M: Message + Default>(self, token: &str) -> Result<M, Failure> {
        let refuse = || Failure::invalid(self.field, "not a token that this request was given");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| refuse())?;
        let (checksum, message) = bytes.split_at_checked(CHECKSUM).ok_or_else(refuse)?;
        if checksum != self.checksum(message) {
            return Err(refuse());
        }
        M::decode(message).map_err(|_| refuse())
    }

    fn checksum(self, message: &[u8]) -> [u8; CHECKSUM] {
        xxhash_rust::xxh3::xxh3_64_with_seed(message, self.digest).to_le_bytes()
    }
}

/// How far a stream has been sent.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Resume {
    /// The next offset of each partition, in their order.
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) next: Vec<u64>,
    /// The present state is still being sent, and this came last of it. Empty otherwise.
    #[prost(string, tag = "2")]
    pub(crate) present_after: String,
    /// Which log the offsets are of. Tokens of earlier programs do not say.
    #[prost(string, tag = "3")]
    pub(crate) log_id: String,
}

impl Resume {
    /// The token of a stream over the log `here` of `partitions`, or `None` where the stream only begins.
    ///
    /// # Errors
    /// See [`Scope::open`]; and where the token is of another log.
    pub(crate) fn of(
        token: &str,
        scope: Scope,
        here: &LogName,
        partitions: u16,
    ) -> Result<Option<Self>, Failure> {
        if token.is_empty() {
            return Ok(None);
        }
        let resume: Self = scope.open(token)?;
        here.check(&resume.log_id, || scope.field.to_owned())?;
        if resume.next.len() == usize::from(partitions) {
            Ok(Some(resume))
        } else {
            Err(Failure::invalid(scope.field, "from a log with another number of partitions"))
        }
    }
}

#[cfg(test)]
mod tests {
    use shopstream_proto::order::v1::GetUserOrdersRequest;

    use super::*;

    fn scope(tenant: &str, customer: &str) -> Scope {
        let request = GetUserOrdersRequest { customer_id: customer.to_owned(), ..Default::default() };
        Scope::new("GetUserOrders", "page_token", &TenantId::new(tenant).expect("valid"), &request)
    }

    fn refused(scope: Scope, token: &str) -> bool {
        matches!(scope.open::<Resume>(token), Err(Failure::Invalid(v)) if v[0].field == "page_token")
    }

    #[test]
    fn a_token_opens_for_its_own_request_only() {
        let sealed = Resume {
            next: vec![0, 7, u64::MAX],
            present_after: "ord_1".to_owned(),
            log_id: "00000007.1".to_owned(),
        };
        let token = scope("acme", "c1").seal(&sealed);
        assert_eq!(scope("acme", "c1").open::<Resume>(&token), Ok(sealed));
        assert!(refused(scope("acme", "c2"), &token));
        assert!(refused(scope("other", "c1"), &token));
    }

    #[test]
    fn a_malformed_token_names_its_field() {
        let token = scope("acme", "c1").seal(&Resume { next: vec![3], ..Resume::default() });
        for wrong in ["", "x", "AAAAAAAAAAA", "ünicode", "====", &token[1..], &format!("{token}AA")] {
            assert!(refused(scope("acme", "c1"), wrong), "{wrong}");
        }
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let scope = scope("acme", "c1");
        let token = BASE64_URL_SAFE_NO_PAD
            .decode(scope.seal(&Resume { next: vec![300, 5], ..Resume::default() }))
            .expect("base64");
        for bit in 0..token.len() * 8 {
            let mut flipped = token.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(scope, &BASE64_URL_SAFE_NO_PAD.encode(flipped)), "bit {bit}");
        }
    }
}
