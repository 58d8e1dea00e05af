
// An invocation computes ROWS × 4 and reads its operands directly from the caches. For emulated GPUs, where shared memory is
// not faster and barriers are slow.
@compute @workgroup_size(WIDTH, HEIGHT)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let first = id.y * ROWS;
    // Indices beyond the last row or output are clamped to it; `finish` does not store them.
    let output = min(vec4(4u * id.x) + vec4(0u, 1u, 2u, 3u), vec4(p.outputs - 1u));
    let row# = min(first + #, p.rows - 1u);
    var sum# = Sum();
    for (var k = 0u; k < p.inputs4; k++) {
        let w0 = weights(output.x, k);
        let w1 = weights(output.y, k);
        let w2 = weights(output.z, k);
        let w3 = weights(output.w, k);
        sum# = multiply(sum#, w0, w1, w2, w3, inputs(row#, k));
    }
    finish(first + #, id.x, sum#);
}
