//! What a client sends, taken apart. Strictly: what is not of the RFCs' grammar is refused, because all that comes
//! after it is compared byte for byte anyway.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::denied::Denied;
use crate::limits::SCRAM_CLIENT_NONCE_BYTES_MAX;

/// The client's software is at fault, not its credentials.
pub(super) fn bad(why: &'static str) -> Denied {
    Denied::BadCredentials { why }
}

/// `[authzid] NUL authcid NUL passwd` (RFC 4616 section 2). No `Debug`: it holds the secret.
pub(super) struct PlainMessage<'m> {
    /// Empty if none is named.
    pub(super) authzid: &'m str,
    pub(super) app: &'m str,
    pub(super) secret: &'m str,
}

impl<'m> PlainMessage<'m> {
    pub(super) fn parse(text: &'m str) -> Result<Self, Denied> {
        let mut parts = text.split('\0');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(authzid), Some(app), Some(secret), None) => Ok(Self { authzid, app, secret }),
            _ => Err(bad("the PLAIN message is not an identity, an app id and a secret with NUL in between")),
        }
    }
}

/// `n,[a=authzid],n=user,r=nonce[,extensions]` (RFC 5802 section 7, client-first-message).
#[derive(Debug)]
pub(super) struct ClientFirst<'m> {
    /// What comes before `n=`.
    pub(super) gs2_header: &'m str,
    /// What comes after the header.
    pub(super) bare: &'m str,
    /// Empty if none is named.
    pub(super) authzid: String,
    pub(super) app: String,
    pub(super) nonce: &'m str,
}

impl<'m> ClientFirst<'m> {
    pub(super) fn parse(text: &'m str) -> Result<Self, Denied> {
        const NO_HEADER: Denied =
            Denied::BadCredentials { why: "the first SCRAM message does not begin with n,, or y,," };
        let (flag, rest) = text.split_once(',').ok_or(NO_HEADER)?;
        match flag {
            // y: the client could bind the channel and thinks that we cannot, which is so.
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(bad("SCRAM with channel binding is not supported")),
            _ => return Err(NO_HEADER),
        }
        let (identity, bare) = rest.split_once(',').ok_or(NO_HEADER)?;
        let authzid = match identity {
            "" => String::new(),
            _ => name(identity.strip_prefix("a=").ok_or(NO_HEADER)?)?,
        };

        let mut attributes = bare.split(',');
        let user = attributes.next().unwrap_or_default();
        if user.starts_with("m=") {
            return Err(NO_MANDATORY);
        }
        let app = name(user.strip_prefix("n=").ok_or(bad("the first SCRAM message names no user"))?)?;
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        let nonce = nonce.ok_or(bad("the first SCRAM message has no nonce"))?;
        check_nonce(nonce)?;
        attributes.try_for_each(check_extension)?;
        Ok(Self { gs2_header: &text[..text.len() - bare.len()], bare, authzid, app, nonce })
    }
}

/// `c=biws,r=nonce[,extensions],p=proof` (RFC 5802 section 7, client-final-message).
#[derive(Debug)]
pub(super) struct ClientFinal<'m> {
    /// All but the proof.
    pub(super) without_proof: &'m str,
    /// Still in base64.
    pub(super) channel: &'m str,
    pub(super) nonce: &'m str,
    pub(super) proof: Vec<u8>,
}

impl<'m> ClientFinal<'m> {
    pub(super) fn parse(text: &'m str) -> Result<Self, Denied> {
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(bad("the last SCRAM message has no proof"))?;
        let proof = STANDARD.decode(proof).map_err(|_| bad("the proof of the last SCRAM message is not base64"))?;
        let mut attributes = without_proof.split(',');
        let channel = attributes.next().and_then(|attribute| attribute.strip_prefix("c="));
        let channel = channel.ok_or(bad("the last SCRAM message does not begin with c="))?;
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        let nonce = nonce.ok_or(bad("the last SCRAM message has no nonce"))?;
        attributes.try_for_each(check_extension)?;
        Ok(Self { without_proof, channel, nonce, proof })
    }
}

const NO_MANDATORY: Denied = Denied::BadCredentials { why: "mandatory extensions of SCRAM are not supported" };

/// A saslname: a comma is written `=2C` and an equals sign `=3D`.
fn name(escaped: &str) -> Result<String, Denied> {
    let mut parts = escaped.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (plain, rest) = match part.as_bytes() {
            [b'2', b'C', ..] => (',', &part[2..]),
            [b'3', b'D', ..] => ('=', &part[2..]),
            _ => return Err(bad("a name in the SCRAM message has = without 2C or 3D")),
        };
        name.push(plain);
        name.push_str(rest);
    }
    if name.is_empty() || name.contains('\0') {
        return Err(bad("a name in the SCRAM message is empty or holds NUL"));
    }
    Ok(name)
}

/// Visible ASCII; it cannot hold a comma.
fn check_nonce(nonce: &str) -> Result<(), Denied> {
    if nonce.len() > SCRAM_CLIENT_NONCE_BYTES_MAX {
        return Err(bad("the nonce of the SCRAM message is too long"));
    }
    if nonce.is_empty() || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad("the nonce of the SCRAM message is empty or not of visible ASCII"));
    }
    Ok(())
}

/// Extensions may be passed over, unless they change who logs in. Kafka's are longer than the one letter of the RFC.
fn check_extension(attribute: &str) -> Result<(), Denied> {
    let (name, value) = attribute.split_once('=').unwrap_or_default();
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic());
    if !is_name || value.is_empty() || value.contains('\0') {
        return Err(bad("an extension of the SCRAM message is not name=value"));
    }
    if name == "m" {
        return Err(NO_MANDATORY);
    }
    // KIP-48: the user is the id of a token.
    if name == "tokenauth" && value.eq_ignore_ascii_case("true") {
        return Err(bad("SCRAM with delegation tokens is not supported"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(denied: Denied) -> String {
        match denied {
            Denied::BadCredentials { why } => why.to_owned(),
            other => panic!("{other:?} says nothing about the message"),
        }
    }

    #[test]
    fn plain_is_three_parts() {
        for (text, expected) in [("\0app\0s", "|app|s"), ("me\0app\0s", "me|app|s"), ("\0\0", "||")] {
            let message = PlainMessage::parse(text).unwrap();
            assert_eq!(format!("{}|{}|{}", message.authzid, message.app, message.secret), expected);
        }
        for text in ["", "app", "\0app", "\0app\0s\0", "\0\0\0\0"] {
            assert!(PlainMessage::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_first_message_is_taken_apart_or_refused_with_a_reason() {
        let long_nonce = format!("n,,n=u,r={}", "x".repeat(SCRAM_CLIENT_NONCE_BYTES_MAX + 1));
        let rows = [
            ("n,,n=u,r=abc", "n,,|n=u,r=abc||u|abc"),
            ("y,,n=u,r=abc", "y,,|n=u,r=abc||u|abc"),
            ("n,a=u,n=u,r=a=b", "n,a=u,|n=u,r=a=b|u|u|a=b"),
            ("n,a==2C,n=a=3Db=2Cc=2C=3D,r=x", "n,a==2C,|n=a=3Db=2Cc=2C=3D,r=x|,|a=b,c,=|x"),
            ("n,,n=u,r=x,tokenauth=false,q==", "n,,|n=u,r=x,tokenauth=false,q==||u|x"),
            ("", "the first SCRAM message does not begin with n,, or y,,"),
            ("n", "the first SCRAM message does not begin with n,, or y,,"),
            ("n,", "the first SCRAM message does not begin with n,, or y,,"),
            ("n,u,n=u,r=x", "the first SCRAM message does not begin with n,, or y,,"),
            ("N,,n=u,r=x", "the first SCRAM message does not begin with n,, or y,,"),
            ("F,n,,n=u,r=x", "the first SCRAM message does not begin with n,, or y,,"),
            ("p=tls-unique,,n=u,r=x", "SCRAM with channel binding is not supported"),
            ("n,,", "the first SCRAM message names no user"),
            ("n,,u,r=x", "the first SCRAM message names no user"),
            ("n,,m=x,n=u,r=x", "mandatory extensions of SCRAM are not supported"),
            ("n,,n=u,r=x,m=x", "mandatory extensions of SCRAM are not supported"),
            ("n,,n=u", "the first SCRAM message has no nonce"),
            ("n,,n=u,x=y,r=x", "the first SCRAM message has no nonce"),
            ("n,,n=u,r=", "the nonce of the SCRAM message is empty or not of visible ASCII"),
            ("n,,n=u,r=a b", "the nonce of the SCRAM message is empty or not of visible ASCII"),
            ("n,,n=u,r=é", "the nonce of the SCRAM message is empty or not of visible ASCII"),
            (&long_nonce, "the nonce of the SCRAM message is too long"),
            ("n,,n=,r=x", "a name in the SCRAM message is empty or holds NUL"),
            ("n,a=,n=u,r=x", "a name in the SCRAM message is empty or holds NUL"),
            ("n,,n=u\0,r=x", "a name in the SCRAM message is empty or holds NUL"),
            ("n,,n=u=,r=x", "a name in the SCRAM message has = without 2C or 3D"),
            ("n,,n=u=2c,r=x", "a name in the SCRAM message has = without 2C or 3D"),
            ("n,,n=u=2é,r=x", "a name in the SCRAM message has = without 2C or 3D"),
            ("n,,n=u,r=x,tokenauth=true", "SCRAM with delegation tokens is not supported"),
            ("n,,n=u,r=x,tokenauth=TRUE", "SCRAM with delegation tokens is not supported"),
            ("n,,n=u,r=x,", "an extension of the SCRAM message is not name=value"),
            ("n,,n=u,r=x,e", "an extension of the SCRAM message is not name=value"),
            ("n,,n=u,r=x,e=", "an extension of the SCRAM message is not name=value"),
            ("n,,n=u,r=x,e1=x", "an extension of the SCRAM message is not name=value"),
        ];
        for (text, expected) in rows {
            let found = match ClientFirst::parse(text) {
                Ok(m) => format!("{}|{}|{}|{}|{}", m.gs2_header, m.bare, m.authzid, m.app, m.nonce),
                Err(denied) => why(denied),
            };
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn a_last_message_is_taken_apart_or_refused_with_a_reason() {
        let rows = [
            ("c=biws,r=x,p=AQI=", "c=biws,r=x|biws|x|[1, 2]"),
            ("c=biws,r=x,e=f,p=", "c=biws,r=x,e=f|biws|x|[]"),
            ("", "the last SCRAM message has no proof"),
            ("c=biws,r=x", "the last SCRAM message has no proof"),
            ("p=AQI=", "the last SCRAM message has no proof"),
            ("c=biws,r=x,p=AQI", "the proof of the last SCRAM message is not base64"),
            ("c=biws,r=x,p=AQJ=", "the proof of the last SCRAM message is not base64"),
            ("c=biws,r=x,p=AQI=,e=f", "the proof of the last SCRAM message is not base64"),
            ("r=x,c=biws,p=AQI=", "the last SCRAM message does not begin with c="),
            ("c=biws,p=AQI=", "the last SCRAM message has no nonce"),
            ("c=biws,r=x,m=e,p=AQI=", "mandatory extensions of SCRAM are not supported"),
            ("c=biws,r=x,e,p=AQI=", "an extension of the SCRAM message is not name=value"),
        ];
        for (text, expected) in rows {
            let found = match ClientFinal::parse(text) {
                Ok(m) => format!("{}|{}|{}|{:?}", m.without_proof, m.channel, m.nonce, m.proof),
                Err(denied) => why(denied),
            };
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
