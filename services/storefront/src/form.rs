//! A form that was sent: taken only with the token that it was given out with.

use axum::{
    Form,
    extract::{FromRequest, FromRequestParts as _, Request},
    response::{IntoResponse as _, Response},
};

use crate::{failure::Failure, hall::Hall, visitor::Visitor};

/// The fields of a form of ours, in their order.
#[derive(Debug)]
pub(crate) struct Submitted(Vec<(String, String)>);

impl Submitted {
    /// The value of a field; nothing where it is missing.
    pub(crate) fn text(&self, name: &str) -> &str {
        let field = self.0.iter().find(|(key, _)| key == name);
        field.map_or("", |(_, value)| value)
    }

    /// The fields whose names begin so, by the rest of their names.
    pub(crate) fn beginning<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.trim())))
    }
}

impl FromRequest<Hall> for Submitted {
    type Rejection = Response;

    async fn from_request(request: Request, hall: &Hall) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, hall).await;
        let visitor = visitor.map_err(|status| status.into_response())?;
        let request = Request::from_parts(parts, body);
        let Form(fields) = Form::<Vec<(String, String)>>::from_request(request, hall)
            .await
            .map_err(|rejection| rejection.into_response())?;
        let submitted = Self(fields);
        if hall.signer.accepts(&visitor.customer_id, submitted.text("token")) {
            Ok(submitted)
        } else {
            Err(Failure::StaleForm.page(&visitor))
        }
    }
}

#[cfg(test)]
impl From<&[(&str, &str)]> for Submitted {
    fn from(fields: &[(&str, &str)]) -> Self {
        Self(fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }
}
