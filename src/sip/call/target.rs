//! Where requests of ours within a dialog go, and our own Contact (RFC 3261 §12.1.1, §12.2.1.1).

use rsipstack::dialog::dialog::Dialog as StackDialog;
use rsipstack::rsip::prelude::{HeadersExt, ToTypedHeader};
use rsipstack::rsip::{self, Header};

use super::super::nameaddr::percent_decode;
use super::Call;

impl Call {
    pub(super) fn contact_header(&self) -> Header {
        rsip::typed::Contact::from(self.shared.contact.clone()).into()
    }

    /// RFC 3261 §12.2: the Contact of a target refresh request or of its 2xx is where later requests go.
    pub(super) fn refresh_target(&self, message: &impl HeadersExt) {
        if let Ok(header) = message.contact_header()
            && let Ok(contact) = header.clone().typed()
        {
            self.set_target(contact.uri);
        }
    }

    fn set_target(&self, mut uri: rsip::Uri) {
        if let Some(auth) = &mut uri.auth {
            auth.user = percent_decode(&auth.user);
        }
        let contact = self.dialog.snapshot().remote_contact;
        StackDialog::Invite(self.dialog.clone()).set_remote_target(uri, contact);
    }

    /// The stack escapes the user part when it writes a URI but does not resolve the escapes when it reads one.
    pub(super) fn decode_remote_target(&self) {
        let uri = self.dialog.snapshot().remote_uri;
        if uri.auth.as_ref().is_some_and(|auth| auth.user.contains('%')) {
            self.set_target(uri);
        }
    }
}
