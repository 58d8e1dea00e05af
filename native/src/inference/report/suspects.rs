//! The page of odd training photos.

use anyhow::Result;
use dinomaly_core::photo::window::Window;
use maud::html;
use rayon::prelude::*;

use super::gallery::thumbnail;
use super::page::document;
use crate::inference::ClassSuspects;

/// The photos of each class to look at, the oddest first.
///
/// # Errors
/// If a photo cannot be read again.
pub(in crate::inference) fn suspects_page(classes: &[ClassSuspects], window: Option<Window>) -> Result<String> {
    let thumbnails = |class: &ClassSuspects| -> Result<Vec<String>> {
        class.first().par_iter().map(|suspect| thumbnail(&suspect.photo, window)).collect()
    };
    let classes = classes.iter().map(|class| Ok((class, thumbnails(class)?))).collect::<Result<Vec<_>>>()?;
    let introduction = html! {
        p.soft {
            "Training photos that others of their class find odd, the oddest first: look for defects, other products and bad light. "
            "Oddness: score by partial memories of the others, divided by the median of the class."
        }
    };
    let content = html! {
        @for (class, thumbnails) in &classes {
            section {
                h2 { (class.class) }
                p { (class.first().len()) " of " (class.photos.len()) " photos" }
                div.gallery {
                    @for (suspect, thumbnail) in class.first().iter().zip(thumbnails) {
                        @let name = suspect.photo.display();
                        figure.shot {
                            div.strip { img src=(thumbnail) alt=(format!("Photo {name}")); }
                            figcaption { span { (name) } span { "oddness " (format!("{:.2}", suspect.oddness)) } }
                        }
                    }
                }
            }
        }
    };
    Ok(document("Odd training photos", introduction, content))
}
