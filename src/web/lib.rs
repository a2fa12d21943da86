//! HTTP side of the node: metrics, health, status and one page.
