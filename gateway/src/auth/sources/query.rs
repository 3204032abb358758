//! A parameter of the query.

use percent_encoding::percent_decode_str;

/// Takes all parameters called `name` out of `query`; their values, decoded. The others stay as
/// they are, byte for byte, and a query without any is none.
///
/// A name can be written with percent-encoding; the upstream would read it all the same, so it is
/// read here, too. `+` stands for itself: it can be part of a token, and the space that it means in
/// forms cannot.
pub(super) fn take(query: &mut Option<String>, name: &str) -> Vec<Vec<u8>> {
    let Some(text) = query else {
        return Vec::new();
    };
    let mut taken = Vec::new();
    let kept: Vec<&str> = text
        .split('&')
        .filter(|parameter| {
            let (own, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let ours = percent_decode_str(own).eq(name.bytes());
            if ours {
                taken.push(percent_decode_str(value).collect());
            }
            !ours
        })
        .collect();
    if !taken.is_empty() {
        let kept = kept.join("&");
        *query = Some(kept).filter(|kept| !kept.is_empty());
    }
    taken
}
