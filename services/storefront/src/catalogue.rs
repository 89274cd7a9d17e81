//! The shop's first page: what there is, and the form that orders it.

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use proto::orders::v1::{Coordination, Customer, PlaceOrderLine, PlaceOrderRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::{
    failure::show,
    form::Submitted,
    hall::Hall,
    outlook::{Away, Offer, Outlook, Stock},
    page::Frame,
    texts::Texts,
    visitor::Visitor,
};

const MOST_PIECES: i32 = 1_000_000;

#[derive(Template)]
#[template(path = "catalogue.html")]
struct CataloguePage {
    frame: Frame,
    away: Away,
    from_replica: bool,
    blind: bool,
    rows: Vec<Row>,
    form: Entered,
    problems: Vec<String>,
}

/// A product, and how many are wanted.
struct Row {
    offer: Offer,
    stock: Stock,
    quantity: String,
}

/// What stands in the form.
struct Entered {
    request_id: String,
    name: String,
    address: String,
    coordination: String,
    quantities: Vec<(String, String)>,
}

impl Entered {
    fn fresh() -> Self {
        let request_id = Uuid::new_v4().to_string();
        let (name, address, coordination) = Default::default();
        Self { request_id, name, address, coordination, quantities: Vec::new() }
    }

    fn again(form: &Submitted) -> Self {
        let quantities = form.beginning("quantity.");
        Self {
            request_id: form.text("request_id").to_owned(),
            name: form.text("name").to_owned(),
            address: form.text("address").to_owned(),
            coordination: form.text("coordination").to_owned(),
            quantities: quantities.map(|(id, text)| (id.to_owned(), text.to_owned())).collect(),
        }
    }

    fn quantity(&self, product_id: &str) -> String {
        let entered = self.quantities.iter().find(|(id, _)| id == product_id);
        entered.map_or_else(|| "0".to_owned(), |(_, text)| text.clone())
    }
}

/// The catalogue.
pub(crate) async fn page(State(hall): State<Hall>, visitor: Visitor) -> Response {
    catalogue(&hall, &visitor, Entered::fresh(), Vec::new()).await
}

async fn catalogue(
    hall: &Hall,
    visitor: &Visitor,
    form: Entered,
    problems: Vec<String>,
) -> Response {
    let t = visitor.texts;
    let outlook = Outlook::look(&hall.shop, &visitor.trace).await;
    let rows = outlook.offers.into_iter().map(|offer| Row {
        stock: Stock { t, pieces: offer.stock },
        quantity: form.quantity(&offer.product_id),
        offer,
    });
    show(&CataloguePage {
        rows: rows.collect(),
        frame: Frame::of(visitor, "shop", Some("/live".to_owned())),
        away: Away { t, services: outlook.away },
        from_replica: outlook.from_replica,
        blind: outlook.blind,
        form,
        problems,
    })
}

/// Places an order. However often one form is sent, it is one order.
pub(crate) async fn place(State(hall): State<Hall>, visitor: Visitor, form: Submitted) -> Response {
    let t = visitor.texts;
    let request = match request(&form, &visitor.customer_id, t) {
        Ok(request) => request,
        Err(problems) => {
            let page = catalogue(&hall, &visitor, Entered::again(&form), problems).await;
            return (StatusCode::UNPROCESSABLE_ENTITY, page).into_response();
        }
    };
    match hall.shop.place(&visitor.trace, request).await {
        Ok(order) => Redirect::to(&format!("/orders/{}", order.order_id)).into_response(),
        Err(status) => {
            let mut entered = Entered::again(&form);
            if status.code() == Code::AlreadyExists {
                entered.request_id = Entered::fresh().request_id;
            }
            let (code, problems) = problems(&status, t);
            (code, catalogue(&hall, &visitor, entered, problems).await).into_response()
        }
    }
}

/// The order that the form asks for. Errors: all that is wrong with it, in the visitor's language.
fn request(
    form: &Submitted,
    customer_id: &str,
    t: &Texts,
) -> Result<PlaceOrderRequest, Vec<String>> {
    let (mut lines, mut problems) = (Vec::new(), Vec::new());
    for (product_id, text) in form.beginning("quantity.") {
        match text.parse() {
            Ok(0) => {}
            Err(_) if text.is_empty() => {}
            Ok(quantity @ 1..=MOST_PIECES) => {
                lines.push(PlaceOrderLine { product_id: product_id.to_owned(), quantity });
            }
            _ => problems.push(format!("{} {product_id}", t.bad_quantity)),
        }
    }
    if lines.is_empty() && problems.is_empty() {
        problems.push(t.nothing_chosen.to_owned());
    }
    if lines.len() > 100 {
        problems.push(t.too_many_lines.to_owned());
    }
    let (name, address) = (form.text("name").trim(), form.text("address").trim());
    if !(1..=200).contains(&name.chars().count()) {
        problems.push(t.name_missing.to_owned());
    }
    if !(1..=500).contains(&address.chars().count()) {
        problems.push(t.address_missing.to_owned());
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let coordination = match form.text("coordination") {
        "choreography" => Coordination::Choreography,
        "orchestration" => Coordination::Orchestration,
        _ => Coordination::Unspecified,
    };
    Ok(PlaceOrderRequest {
        request_id: form.text("request_id").to_owned(),
        customer: Some(Customer {
            customer_id: customer_id.to_owned(),
            name: name.to_owned(),
            address: address.to_owned(),
        }),
        lines,
        coordination: coordination.into(),
    })
}

/// Why orders did not take it.
fn problems(status: &Status, t: &Texts) -> (StatusCode, Vec<String>) {
    match status.code() {
        Code::AlreadyExists => (StatusCode::CONFLICT, vec![t.form_used.to_owned()]),
        Code::FailedPrecondition => {
            (StatusCode::CONFLICT, vec![t.out_of_stock.to_owned(), status.message().to_owned()])
        }
        Code::InvalidArgument => {
            let violations = status.get_details_bad_request().map(|it| it.field_violations);
            let violations = violations.unwrap_or_default();
            let told = violations.into_iter().map(|it| format!("{}: {}", it.field, it.description));
            (StatusCode::UNPROCESSABLE_ENTITY, told.collect())
        }
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
            (StatusCode::SERVICE_UNAVAILABLE, vec![t.orders_away.to_owned()])
        }
        code => {
            tracing::error!(?code, message = status.message(), "an order was not taken");
            (StatusCode::INTERNAL_SERVER_ERROR, vec![t.failed.to_owned()])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Language;

    const T: &Texts = Texts::of(Language::English);

    fn asked(fields: &[(&str, &str)]) -> Result<PlaceOrderRequest, Vec<String>> {
        request(&Submitted::from(fields), "web-1", T)
    }

    #[test]
    fn an_order_has_the_lines_that_were_chosen() {
        let order = asked(&[
            ("request_id", "r"),
            ("quantity.tv", "2"),
            ("quantity.mask", "0"),
            ("quantity.clock", ""),
            ("name", " 홍길동 "),
            ("address", "서울시"),
            ("coordination", "orchestration"),
        ])
        .unwrap();
        let line = PlaceOrderLine { product_id: "tv".to_owned(), quantity: 2 };
        assert_eq!(order.lines, [line]);
        assert_eq!(order.coordination(), Coordination::Orchestration);
        let customer = order.customer.unwrap();
        assert_eq!((customer.customer_id.as_str(), customer.name.as_str()), ("web-1", "홍길동"));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let long = "x".repeat(501);
        let fields = [("quantity.tv", "-1"), ("quantity.mask", "1e3"), ("address", &long)];
        assert_eq!(
            asked(&fields).unwrap_err(),
            [
                format!("{} tv", T.bad_quantity),
                format!("{} mask", T.bad_quantity),
                T.name_missing.to_owned(),
                T.address_missing.to_owned()
            ]
        );
        let fields = [("quantity.tv", "0"), ("name", "n"), ("address", "a")];
        assert_eq!(asked(&fields).unwrap_err(), [T.nothing_chosen]);
    }

    #[test]
    fn a_service_that_is_away_is_not_the_visitors_fault() {
        let (code, told) = problems(&Status::unavailable("10.0.0.1 refused"), T);
        assert_eq!((code, told), (StatusCode::SERVICE_UNAVAILABLE, vec![T.orders_away.to_owned()]));
        let (_, told) = problems(&Status::internal("a secret of the database"), T);
        assert_eq!(told, [T.failed]);
    }
}
