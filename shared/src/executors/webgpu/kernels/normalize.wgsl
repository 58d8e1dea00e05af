// Division of each row by its norm, which is at least 1e-8; a few lanes per row and several rows per workgroup.

struct Params {
    rows: u32,
    channels: u32,
    // vec4s in a row; the padding is zero and stays zero.
    channels4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

const LANES = 16u;
const ROWS = 4u;
// Bits of 1e-8.
const SMALLEST = 0x322bcc77u;
var<workgroup> sums: array<f32, LANES * ROWS>;

@compute @workgroup_size(LANES, ROWS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = (group.y * groups.x + group.x) * ROWS + local.y;
    let start = row * p.channels4;
    // Lanes beyond the last row skip the loops, but take part in the barrier.
    let end = select(0u, p.channels4, row < p.rows);

    var squares = 0.0;
    for (var i = local.x; i < end; i += LANES) {
        squares += dot(x[start + i], x[start + i]);
    }
    sums[index] = squares;
    workgroupBarrier();
    squares = 0.0;
    for (var lane = 0u; lane < LANES; lane++) {
        squares += sums[local.y * LANES + lane];
    }
    // The bits of positive numbers are in their order, and those of a NaN follow: `max` of numbers may lose it.
    let norm = bitcast<f32>(max(bitcast<u32>(sqrt(squares)), SMALLEST));

    for (var i = local.x; i < end; i += LANES) {
        let channel = vec4(4u * i) + vec4(0u, 1u, 2u, 3u);
        y[start + i] = select(vec4(0.0), x[start + i] / norm, channel < vec4(p.channels));
    }
}
