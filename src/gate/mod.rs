//! Puts the rooms together; the only place with an order.
