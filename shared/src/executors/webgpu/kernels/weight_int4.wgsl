
// Eight signed nibbles per word, the first input in the lowest.
@group(0) @binding(5) var<storage, read> weight: array<u32>;
// Two f16 per word, the first in the lower half: one scale per group of a row's inputs.
@group(0) @binding(6) var<storage, read> scales: array<u32>;

fn weights(output: u32, k: u32) -> Right {
    let word = vec4(bitcast<i32>(weight[output * ((p.inputs4 + 1u) / 2u) + k / 2u]));
    // Nibble n is shifted to the top and back; the arithmetic shift to the right extends its sign.
    let nibbles = (word << (vec4(28u, 24u, 20u, 16u) - 16u * (k % 2u))) >> vec4(28u);
    let at = output * ((p.inputs4 + p.group4 - 1u) / p.group4) + k / p.group4;
    let pair = unpack2x16float(scales[at / 2u]);
    return vec4<f32>(nibbles) * select(pair.x, pair.y, at % 2u == 1u);
}

fn scaled(sum: Sum, row: u32, column: u32) -> vec4<f32> {
    return sum;
}
