// Order of numbers as whole numbers, because comparisons and maxima of numbers may lose a NaN.

const SIGN = 0x80000000u;
const INFINITY = 0x7f800000u;
const NAN = 0x7fc00000u;
// Place of a NaN, after all numbers. Before all of them is zero.
const LAST = 0xffffffffu;

// Places of numbers, in their order, from their bits.
fn places(bits: vec4<u32>) -> vec4<u32> {
    let size = bits & vec4(~SIGN);
    let place = select(vec4(SIGN) + size, vec4(SIGN) - size, bits >= vec4(SIGN));
    return select(place, vec4(LAST), size > vec4(INFINITY));
}

fn place(number: f32) -> u32 {
    return places(vec4(bitcast<u32>(number))).x;
}

fn number_at(place: u32) -> f32 {
    return bitcast<f32>(select(SIGN | (SIGN - place), place - SIGN, place >= SIGN));
}

// The smaller of one minus the number at a place and another distance, as bits: NaN if one of them is.
fn smaller_distance(nearest: u32, other: u32) -> u32 {
    if nearest == LAST {
        return NAN;
    }
    let distance = 1.0 - number_at(nearest);
    let before = places(vec4(other)).x;
    return select(bitcast<u32>(distance), other, before == LAST || before < place(distance));
}

