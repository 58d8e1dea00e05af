//! Licences as the hub's cards name them.

/// A licence in a card's front matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Licence {
    /// The hub's identifier, such as `apache-2.0`, or `other`.
    pub id: String,
    /// Name of another one.
    pub name: Option<String>,
}

impl Licence {
    /// The licence that people call so. `None` if the text says that there is none.
    ///
    /// Of several only the first counts, which is that of the file that was fetched.
    pub fn of(text: &str) -> Option<Self> {
        let first = text.split([';', '(']).next().unwrap_or_default().trim();
        let id = first.to_lowercase().replace(' ', "-");
        match id.as_str() {
            "" | "none-stated" => None,
            "apache-2.0" | "mit" | "cc-by-nc-4.0" => Some(Self { id, name: None }),
            _ => Some(Self { id: "other".into(), name: Some(id) }),
        }
    }

    /// The licence that the user gives by the hub's identifier.
    pub fn given(id: &str) -> Self {
        Self { id: id.to_owned(), name: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoders::catalogue;

    #[test]
    fn every_licence_of_the_catalogue_is_understood() {
        let mut others = Vec::new();
        for known in catalogue::all() {
            match Licence::of(&known.licence) {
                None => assert_eq!(known.licence, "none stated"),
                Some(Licence { name: Some(name), .. }) => others.push(name),
                Some(Licence { id, name: None }) => assert!(known.licence.to_lowercase().starts_with(&id), "{known:?}"),
            }
        }
        others.dedup();
        assert_eq!(others, ["dinov3-license"]);
    }
}
