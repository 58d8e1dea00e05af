//! Photo-like pictures of products that do not exist, with defects and masks: the data of the embedded demo model.
//!
//! A product draws a [`surface::Surface`] (a height field with materials), a defect changes it, [`light`] and
//! [`camera`] make a photo. Everything follows from a seed, on every platform alike. The mask of a defect is where
//! the photo visibly differs from the photo of the same piece without the defect ([`mask`]). [`dataset`] writes
//! folders in the MVTec-AD layout; [`baseline`] shows that their classes cannot be solved pixel by pixel.
//! [`mod@scrap`] draws pictures of anything, from which an encoder can be distilled.

#[cfg(feature = "trainer")]
pub mod baseline;
pub mod blister;
pub mod board;
pub mod camera;
pub mod dataset;
pub mod defects;
pub mod dice;
pub mod draw;
pub mod fabric;
pub mod filter;
pub mod gear;
pub mod glyphs;
pub mod light;
pub mod mask;
pub mod noise;
pub mod parts;
#[cfg(feature = "trainer")]
pub mod scrap;
pub mod surface;
pub mod texture;

use image::{GrayImage, RgbImage};

use camera::Camera;
use dice::Dice;
use light::Lighting;
use surface::Surface;

#[cfg(feature = "trainer")]
pub use scrap::scrap;

/// A defect to draw: one of the product's kinds, and the chance that shapes it.
pub struct Flaw {
    /// Index into the product's [`Product::DEFECTS`].
    pub kind: &'static str,
    /// Dice for its place, size and shape.
    pub dice: Dice,
}

/// A kind of product. A value is one piece of it, at one place under the camera.
pub trait Product: Sized {
    /// Folder name of the class.
    const NAME: &'static str;
    /// Folder names of its defects.
    const DEFECTS: &'static [&'static str];
    /// A good piece of the class, with the variation of production and handling only.
    fn sample(dice: &mut Dice) -> Self;
    /// A piece of a similar product: other colours, proportions, layout.
    fn vary(dice: &mut Dice) -> Self;
    /// Draws the piece, whole or with a defect. The rest of the picture does not depend on the defect.
    fn surface(&self, size: usize, flaw: Option<Flaw>) -> Surface;
}

/// The classes of the generated data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Capsules in a blister pack.
    Blister,
    /// Printed circuit board.
    Board,
    /// Woven cloth.
    Fabric,
    /// Machined gear.
    Gear,
}

/// A defective photo and its companions.
#[derive(Clone, Debug)]
pub struct Defective {
    /// Square RGB photo.
    pub photo: RgbImage,
    /// White where the photo shows the defect.
    pub mask: GrayImage,
    /// The same piece in the same light without the defect: equal outside the mask.
    pub good: RgbImage,
}

impl Class {
    /// Every class, by name.
    pub const ALL: [Class; 4] = [Class::Blister, Class::Board, Class::Fabric, Class::Gear];

    /// Folder name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blister => blister::Blister::NAME,
            Self::Board => board::Board::NAME,
            Self::Fabric => fabric::Fabric::NAME,
            Self::Gear => gear::Gear::NAME,
        }
    }

    /// Folder names of the defects, by name.
    pub fn defects(self) -> &'static [&'static str] {
        match self {
            Self::Blister => blister::Blister::DEFECTS,
            Self::Board => board::Board::DEFECTS,
            Self::Fabric => fabric::Fabric::DEFECTS,
            Self::Gear => gear::Gear::DEFECTS,
        }
    }

    /// Good photo number `index` of a split (any name, as `train`), `size`×`size`.
    pub fn good(self, seed: u64, split: &str, index: u64, size: usize) -> RgbImage {
        let dice = self.dice(seed, split, index);
        match self {
            Self::Blister => Scene::<blister::Blister>::new(dice).photo(size, None),
            Self::Board => Scene::<board::Board>::new(dice).photo(size, None),
            Self::Fabric => Scene::<fabric::Fabric>::new(dice).photo(size, None),
            Self::Gear => Scene::<gear::Gear>::new(dice).photo(size, None),
        }
    }

    /// Photo number `index` with a defect of one of the kinds of [`Class::defects`], `size`×`size`.
    pub fn defective(self, seed: u64, kind: &'static str, index: u64, size: usize) -> Defective {
        let dice = self.dice(seed, kind, index);
        match self {
            Self::Blister => Scene::<blister::Blister>::new(dice).defective(size, kind),
            Self::Board => Scene::<board::Board>::new(dice).defective(size, kind),
            Self::Fabric => Scene::<fabric::Fabric>::new(dice).defective(size, kind),
            Self::Gear => Scene::<gear::Gear>::new(dice).defective(size, kind),
        }
    }

    fn dice(self, seed: u64, purpose: &str, index: u64) -> Dice {
        Dice::new(seed, [dice::label(self.name()), dice::label(purpose), index])
    }
}

/// A piece under a light and a camera.
struct Scene<P> {
    piece: P,
    lighting: Lighting,
    camera: Camera,
    dice: Dice,
}

impl<P: Product> Scene<P> {
    fn new(mut dice: Dice) -> Self {
        let (piece, lighting, camera) = (P::sample(&mut dice), Lighting::cell(&mut dice), Camera::cell(&mut dice));
        Self { piece, lighting, camera, dice }
    }

    fn photo(&self, size: usize, flaw: Option<Flaw>) -> RgbImage {
        self.camera.develop(self.lighting.shade(&self.piece.surface(size, flaw)), size)
    }

    /// Draws defects until one is plainly visible: of 0.5 to 12 % of the picture, and of 22 levels on average.
    fn defective(mut self, size: usize, kind: &'static str) -> Defective {
        const TRIES: usize = 12;
        let good = self.photo(size, None);
        let mut best: Option<(f32, Defective)> = None;
        for _ in 0..TRIES {
            let dice = Dice::new(u64::from(self.dice.bits()), [0; 3]);
            let mut photo = self.photo(size, Some(Flaw { kind, dice }));
            let mask = mask::confine(&good, &mut photo);
            let (area, change) = mask::visibility(&good, &photo, &mask);
            let merit = (area / 0.005).min(1.0) * (0.12 / area.max(1e-6)).min(1.0) * (change / 22.0).min(1.0);
            if best.as_ref().is_none_or(|(most, _)| merit > *most) {
                best = Some((merit, Defective { photo, mask, good: good.clone() }));
            }
            if merit >= 1.0 {
                break;
            }
        }
        best.expect("at least one try").1
    }
}
