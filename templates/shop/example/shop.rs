//! Places an order and lists the orders of the shop.
//!
//!     cargo run --example shop
//!
//! The tenant acme must exist: cgk tenant:create acme

use cgk::{Config, Db, FromRow, TenantSlug, tokio_postgres};

#[tokio::main]
async fn main() -> cgk::Result<()> {
    let db = Db::connect(&Config::load()?).await?;
    let acme: TenantSlug = "acme".parse()?;
    add_product(&db, &acme, "mug", 1200).await?;
    place_order(&db, &acme, "mug", 2).await?;
    for order in orders(&db, &acme).await? {
        println!(
            "{}: {}.{:02} EUR",
            order.number,
            order.total / 100,
            order.total % 100
        );
    }
    Ok(())
}

pub struct Order {
    pub number: String,
    /// In cents.
    pub total: i64,
}

impl FromRow for Order {
    fn from_row(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            number: row.try_get("order_number")?,
            total: row.try_get("total_minor")?,
        })
    }
}

/// One statement is a transaction of its own.
pub async fn add_product(
    db: &Db,
    tenant: &TenantSlug,
    handle: &str,
    price: i64,
) -> cgk::Result<()> {
    let product = "
        insert into products (handle, title, currency, price_minor, status, published_at)
        values ($1, initcap($1), 'EUR', $2, 'active', now())
            on conflict (handle) do nothing";
    db.tenant(tenant)
        .execute(product, &[&handle, &price])
        .await?;
    Ok(())
}

/// The order and its line are committed together, or neither is.
pub async fn place_order(
    db: &Db,
    tenant: &TenantSlug,
    handle: &str,
    quantity: i32,
) -> cgk::Result<()> {
    db.with_tenant(tenant, async |tx| {
        let order = "
            insert into orders (order_number, currency, subtotal_minor, total_minor)
            select '#' || 1001 + (select count(*) from orders), currency, price_minor * $2::int,
                   price_minor * $2::int
              from products where handle = $1
            returning order_number";
        let number: String = tx.query_one(order, &[&handle, &quantity]).await?.get(0);
        let item = "
            insert into order_items (order_id, line_no, product_id, title, quantity,
                                     unit_price_minor)
            select o.id, 1, p.id, p.title, $3, p.price_minor
              from orders o, products p where o.order_number = $1 and p.handle = $2";
        tx.execute(item, &[&number, &handle, &quantity]).await?;
        Ok(())
    })
    .await
}

pub async fn orders(db: &Db, tenant: &TenantSlug) -> cgk::Result<Vec<Order>> {
    let latest_first = "
        select order_number, total_minor from orders
         order by placed_at desc, id";
    db.tenant(tenant).query_as(latest_first, &[]).await
}
