//! The account against a server that wants what the service wants: one form, with key, secret, attributes and one file.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use meerkat_base::{Image, PixelFormat};
use meerkat_outbound::OutboundSettings;

use super::*;

const KEY: &str = "key-of-the-test";
const SECRET: &str = "secret-of-the-test";

/// Answers one request; gives back what was wrong with it.
fn server(status: &'static str, answer: String) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut line, mut length, mut complaints) = (String::new(), 0, Vec::new());
        reader.read_line(&mut line).unwrap();
        if line != "POST /facepp/v3/detect HTTP/1.1\r\n" {
            complaints.push(line.clone());
        }
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        if body.len() > MAX_BYTES + 4096 {
            complaints.push(format!("{} bytes", body.len()));
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        for (name, value) in [("api_key", KEY), ("api_secret", SECRET), ("return_attributes", ATTRIBUTES)] {
            if !text.contains(&format!("name=\"{name}\"\r\n\r\n{value}\r\n")) {
                complaints.push(format!("no {name}"));
            }
        }
        if text.matches("name=\"image_file\"; filename=").count() != 1 {
            complaints.push("not one file".to_owned());
        }
        let mut stream = stream;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        complaints
    });
    (address, serving)
}

async fn ask(status: &'static str, answer: &str) -> Result<Vec<JudgedFace>, FaceppError> {
    let (address, serving) = server(status, answer.to_owned());
    let url = SecretUrl::parse(&format!("http://{address}/facepp/v3/detect")).unwrap();
    let client = HttpClient::new(OutboundSettings::default()).unwrap();
    let account = Facepp::new(client, url, Secret::new(KEY), Secret::new(SECRET));
    let faces = account.faces(b"\xff\xd8 not looked at here \xff\xd9").await;
    assert_eq!(serving.join().unwrap(), Vec::<String>::new());
    faces
}

/// As documented for version 3, with the fields that are not read.
const TWO: &str = r#"{"request_id":"1","time_used":9,"image_id":"a","face_num":3,"faces":[
 {"face_token":"x","face_rectangle":{"top":10,"left":20,"width":30,"height":30},
  "attributes":{"gender":{"value":"Male"},"age":{"value":41},"beauty":{"male_score":61.25,"female_score":58.5}}},
 {"face_token":"y","face_rectangle":{"top":100,"left":200,"width":90,"height":91},
  "attributes":{"gender":{"value":"Female"},"age":{"value":23},"beauty":{"male_score":70.5,"female_score":74.123}}},
 {"face_token":"z","face_rectangle":{"top":0,"left":0,"width":400,"height":400}}]}"#;

#[tokio::test]
async fn faces_come_with_sex_age_and_beauty_the_largest_first() {
    let faces = ask("200 OK", TWO).await.unwrap();
    assert_eq!(faces.len(), 2, "one without attributes was not judged");
    assert_eq!((faces[0].gender, faces[0].age, faces[0].beauty), ("Female", 23, 74.123));
    assert_eq!((faces[1].gender, faces[1].age, faces[1].beauty), ("Male", 41, 61.25));
    assert_eq!(faces[0].bbox, Rect::new(200.0, 100.0, 90.0, 91.0));
    assert_eq!(beauty_of(&Rect::new(205.0, 98.0, 85.0, 95.0), &faces), Some(74.123));
    assert_eq!(beauty_of(&Rect::new(22.0, 12.0, 30.0, 30.0), &faces), Some(61.25));
    assert_eq!(beauty_of(&Rect::new(300.0, 300.0, 30.0, 30.0), &faces), None, "another face");
    assert_eq!(ask("200 OK", r#"{"faces":[],"face_num":0}"#).await.unwrap(), []);
}

#[tokio::test]
async fn refusals_are_told_without_key_and_secret() {
    let refused = ask("401 Unauthorized", r#"{"error_message":"AUTHENTICATION_ERROR"}"#).await.unwrap_err();
    assert_eq!(refused.to_string(), "face++ answers 401: AUTHENTICATION_ERROR");
    let busy = ask("403 Forbidden", r#"{"error_message":"CONCURRENCY_LIMIT_EXCEEDED"}"#).await.unwrap_err();
    assert!(matches!(busy, FaceppError::Refused { status: 403, .. }), "{busy}");
    for nonsense in ["", "<html>", "[]", r#"{"faces":[{"face_rectangle":{"top":"x"}}]}"#] {
        let error = ask("200 OK", nonsense).await.unwrap_err().to_string();
        assert!(!error.contains(SECRET) && !error.contains(KEY), "{error}");
    }
    assert!(ask("500 Internal Server Error", "oops").await.unwrap_err().to_string().contains("500"));
    let long = format!(r#"{{"faces":[],"x":"{}"}}"#, "a".repeat(70_000));
    assert!(
        matches!(ask("200 OK", &long).await.unwrap_err(), FaceppError::Outbound(_)),
        "a reply has a limit"
    );
}

#[test]
fn large_pictures_are_made_smaller_and_boxes_scale_back() {
    let picture = |width: u32, height: u32| {
        let image =
            Image::new(width, height, PixelFormat::Bgr8, vec![90; (width * height * 3) as usize]).unwrap();
        Bytes::from(meerkat_vision::encode_jpeg(&image, 80).unwrap())
    };
    let small = picture(640, 480);
    let (same, scale) = small_enough(&small).unwrap();
    assert_eq!((same, scale), (small, 1.0));
    let (smaller, scale) = small_enough(&picture(5120, 320)).unwrap();
    assert_eq!((probe(&smaller).unwrap().width, scale), (1280, 4.0));
    assert!(small_enough(&Bytes::from_static(b"no picture")).is_err());
}
