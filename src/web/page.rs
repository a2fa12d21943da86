//! The page at `/` and the files it needs, all built into the program. No logic: the page asks the API.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use crate::routes::reading;

/// Address, content type and content of each file.
const FILES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/favicon.svg", "image/svg+xml", include_str!("page/favicon.svg")),
];

pub(crate) fn configure(config: &mut web::ServiceConfig) {
    for (address, content_type, content) in FILES {
        let send = move || async move {
            HttpResponse::Ok()
                .content_type(content_type)
                // Asked for anew each time: after an update, old script must not meet new API.
                .insert_header((header::CACHE_CONTROL, "no-cache"))
                .body(content)
        };
        config.service(reading(address, send));
    }
}
