//! Certificate authorities of a test's own, and what they sign.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SubjectPublicKeyInfo,
};

/// The only key that is not made by the test: nothing here encrypts keys. It opens nothing but the test's own broker.
pub(crate) const ENCRYPTED_KEY: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiDdDgZquNjGAICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEOekm+T8gkYH4zJO+RybNb8EgZAz
eVOTMV5SOY7zv1NyP8OIPBvxmaGcYz6eCUHKcPVvJ781YPBbiBmMiTYXLqjaSx28
UJZOkBLALWPtWic2s4SfG9HdMSpHZhIGbZ/xTl6bNINFpjKq1QzZ2VZufwUUIhSS
aKgv+VhTJlhk93/bQfX0tne0OwDttNMuypytnaGnhvCBIFUwNEzdtfedEab9INM=
-----END ENCRYPTED PRIVATE KEY-----
";
pub(crate) const KEY_PASSWORD: &str = "the-keys-password";
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAESkBKKKiUidUuzmPWMquXHqndVD+k
nJaxIMsh2lG5TIzqBwhPs//27xfCaIdsuVMxgrSEQT5+ENFJUopVR3vVTg==
-----END PUBLIC KEY-----
";

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A key and a certificate for these hosts.
    pub(crate) fn server(&self, hosts: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (key.serialize_pem(), self.sign(named("server", hosts), &key))
    }

    /// A certificate of the encrypted key for a client that is called CN=name.
    pub(crate) fn client(&self, name: &str) -> String {
        self.sign(named(name, &[]), &SubjectPublicKeyInfo::from_pem(PUBLIC_KEY).unwrap())
    }

    fn sign(&self, params: CertificateParams, key: &impl PublicKeyData) -> String {
        params.signed_by(key, &self.0).unwrap().pem()
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Writes a file into a directory and returns its path.
pub(crate) fn keep(directory: &Path, name: &str, text: &str) -> String {
    let file = directory.join(name);
    fs::write(&file, text).unwrap();
    file.display().to_string()
}
