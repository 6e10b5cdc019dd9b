//! Owns whom to trust of the cameras that speak TLS: reading the certificates, what elements that connect are told, and the words for
//! a certificate that is not trusted. Read on the main thread and where a source is made; asked on `GStreamer`'s threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_rtsp_server::gio::{TlsCertificate, TlsCertificateFlags as Flags, TlsDatabase, TlsFileDatabase, prelude::*};

use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::source::Tls;

/// Whom to trust.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    /// Nobody is checked.
    anybody: bool,
    /// Whose signatures count, in the place of the system's authorities.
    file: Option<PathBuf>,
    /// The certificates in the file (DER). A camera that shows one of them is that camera, whatever name and date stand there.
    known: Arc<Vec<Vec<u8>>>,
}

impl Trust {
    /// As the configuration has it. Errors: `config` when the file cannot be read or holds no certificate.
    pub fn load(tls: &Tls) -> Result<Trust> {
        let mut trust = Trust { anybody: !tls.verify, ..Trust::default() };
        if let Some(file) = &tls.ca {
            let what = || format!("camera.tls_ca: read {}", file.display());
            let whole = std::fs::canonicalize(file).and_then(|whole| disk::read(&whole, disk::SMALL).map(|_| whole));
            let whole = whole.map_err(|e| Error::caused(Kind::Config, what(), e))?;
            let known = certificates(&whole).ok_or_else(|| {
                Error::new(
                    Kind::Config,
                    format!("{}: the file must hold certificates as PEM (-----BEGIN CERTIFICATE-----)", what()),
                )
            })?;
            (trust.file, trust.known) = (Some(whole), Arc::new(known));
        }
        Ok(trust)
    }

    /// Tells an element that connects.
    pub fn tell(&self, element: &gst::Element) {
        if element.has_property("tls-database") {
            element.set_property("tls-database", self.database());
        }
        if element.has_property("ssl-strict") {
            element.set_property("ssl-strict", !self.anybody);
        }
        if gst::glib::subclass::SignalId::lookup("accept-certificate", element.type_()).is_some() {
            let trust = self.clone();
            element.connect("accept-certificate", false, move |values| {
                Some(values[2].get::<TlsCertificate>().is_ok_and(|shown| trust.knows(&shown)).to_value())
            });
        }
    }

    /// Whose authorities are to be asked, where not the system's.
    pub fn database(&self) -> Option<TlsDatabase> {
        Some(TlsFileDatabase::new(self.file.as_ref()?).ok()?.upcast())
    }

    /// Whether every certificate is taken.
    pub fn takes_all(&self) -> bool {
        self.anybody
    }

    /// Whether this certificate is taken though its name, its date or who signed it is wrong.
    pub fn knows(&self, shown: &TlsCertificate) -> bool {
        self.anybody || shown.certificate().is_some_and(|der| self.known.iter().any(|k| **k == *der))
    }
}

/// Those in a file (DER); `None` where there is none.
fn certificates(file: &Path) -> Option<Vec<Vec<u8>>> {
    let all = TlsCertificate::list_new_from_file(file).ok()?;
    let all: Vec<_> = all.iter().filter_map(|c| Some(c.certificate()?.to_vec())).collect();
    (!all.is_empty()).then_some(all)
}

/// Why a certificate is not trusted, and what to do.
pub(super) fn distrust(wrong: Flags, host: &str) -> String {
    let why = if wrong.contains(Flags::UNKNOWN_CA) {
        "nobody known here has signed it; save it as a PEM file and name that in camera.tls_ca".to_string()
    } else if wrong.contains(Flags::BAD_IDENTITY) {
        format!("it is not for {host}; write the name that stands in it into camera.source")
    } else if wrong.contains(Flags::EXPIRED) {
        "it has expired; renew it in the camera, or correct this machine's clock".into()
    } else if wrong.contains(Flags::NOT_ACTIVATED) {
        "it is not valid yet; correct this machine's clock".into()
    } else {
        "it is revoked or made in an insecure way; renew it in the camera".into()
    };
    format!("the certificate is not trusted: {why}, or set camera.tls_verify to false")
}
