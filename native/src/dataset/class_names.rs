//! Names of classes: those of folders, or from lists in files.

use std::path::{Component, Path};

use anyhow::{Result, bail};

use super::ClassFolder;

/// Checks the names of classes, and keeps those in `only`: names, one or several with commas between them; all, if it is empty.
pub(super) fn chosen(mut places: Vec<ClassFolder>, only: &[String], root: &Path) -> Result<Vec<ClassFolder>> {
    places.iter().try_for_each(check_name)?;
    let is_class = |name: &str| places.iter().any(|place| place.name == name);
    // The name of a class may hold commas.
    let names =
        |one: &String| if is_class(one) { vec![one.clone()] } else { one.split(',').map(str::to_owned).collect() };
    let only: Vec<String> = only.iter().flat_map(names).collect();
    if let Some(missing) = only.iter().find(|name| !is_class(name)) {
        let found: Vec<String> = places.iter().map(|place| place.name.clone()).collect();
        bail!("class {missing} is not in {}: it holds {}", root.display(), found.join(", "));
    }
    places.retain(|place| only.is_empty() || only.contains(&place.name));
    Ok(places)
}

/// Checks that a folder can be named after the class, and the name be printed. Some layouts take names from lists in files.
fn check_name(place: &ClassFolder) -> Result<()> {
    let (path, name) = (place.path.display(), &place.name);
    if name.trim().is_empty() {
        bail!("{path} has a blank name: a class is called by its folder, rename it");
    }
    let one_folder = matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
    if !one_folder || name.contains('/') || name.contains(char::is_control) {
        bail!(
            "{path} is a class called {name:?}: expected the name of one folder, without control characters; rename it"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Dataset;
    use super::super::testing::Root;

    #[test]
    fn a_class_has_the_name_of_its_folder_however_that_is_given() {
        let root = Root::with(&["nut/test/good/2.png"]);
        for path in ["nut", "nut/", "nut/test/..", "nut/."] {
            let dataset = Dataset::open(&root.path(path), &[]).unwrap();
            assert_eq!(dataset.classes[0].name, "nut", "{path}");
        }
    }

    #[test]
    fn the_name_of_a_class_may_hold_commas() {
        let root = Root::with(&["bolt, M6/train/good/1.png", "nut/train/good/1.png", "pin/train/good/1.png"]);
        let names = |only: &[&str]| -> Vec<String> {
            let only: Vec<String> = only.iter().map(|&name| name.into()).collect();
            Dataset::open(&root.path(""), &only).unwrap().classes.into_iter().map(|class| class.name).collect()
        };
        assert_eq!(names(&["bolt, M6"]), ["bolt, M6"]);
        assert_eq!(names(&["nut,pin"]), ["nut", "pin"]);
        assert_eq!(names(&["bolt, M6", "nut"]), ["bolt, M6", "nut"]);
        root.write(" /train/good/1.png", "");
        let error = Dataset::open(&root.path(""), &[]).unwrap_err().to_string();
        assert!(error.contains("has a blank name"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_would_forge_a_line_is_refused() {
        let root = Root::with(&["nut\nmodel written/train/good/1.png"]);
        let error = Dataset::open(&root.path(""), &[]).unwrap_err().to_string();
        assert!(
            error.contains(r#"is a class called "nut\nmodel written": expected the name of one folder"#),
            "{error}"
        );
    }
}
