//! Ways to tell people: WeCom, webhook.
