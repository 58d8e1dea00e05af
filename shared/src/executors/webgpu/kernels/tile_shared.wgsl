
// A workgroup computes WIDTH × 4 outputs of HEIGHT × ROWS rows, an invocation ROWS × 4 of them. Rows of x and of the weight are
// contiguous along the inputs, so both tiles are copied to shared memory in this order and transposed in registers.

// vec4s along the inputs of a tile in shared memory, and its pitch, which is odd so that neighbours read from different banks.
const DEPTH = 4u;
const PITCH = 5u;

var<workgroup> left: array<Left, HEIGHT * ROWS * PITCH>;
var<workgroup> right: array<Right, 4u * WIDTH * PITCH>;

@compute @workgroup_size(WIDTH, HEIGHT)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    var sum# = Sum();
    for (var k = 0u; k < p.inputs4; k += DEPTH) {
        for (var i = index; i < HEIGHT * ROWS * DEPTH; i += WIDTH * HEIGHT) {
            let row = group.y * HEIGHT * ROWS + i / DEPTH;
            let at = k + i % DEPTH;
            var l = Left();
            if row < p.rows && at < p.inputs4 {
                l = inputs(row, at);
            }
            left[i / DEPTH * PITCH + i % DEPTH] = l;
        }
        for (var i = index; i < 4u * WIDTH * DEPTH; i += WIDTH * HEIGHT) {
            let staged = i / DEPTH;
            let output = group.x * 4u * WIDTH + staged;
            let at = k + i % DEPTH;
            var r = Right();
            if output < p.outputs && at < p.inputs4 {
                r = weights(output, at);
            }
            // Output 4a + b is in slot WIDTH · b + a, so that the invocations of a row read neighbouring slots.
            right[(staged % 4u * WIDTH + staged / 4u) * PITCH + i % DEPTH] = r;
        }
        workgroupBarrier();
        for (var d = 0u; d < DEPTH; d++) {
            let source = local.x * PITCH + d;
            let w0 = right[source];
            let w1 = right[source + WIDTH * PITCH];
            let w2 = right[source + 2u * WIDTH * PITCH];
            let w3 = right[source + 3u * WIDTH * PITCH];
            let rows = local.y * ROWS * PITCH + d;
            sum# = multiply(sum#, w0, w1, w2, w3, left[rows + # * PITCH]);
        }
        workgroupBarrier();
    }
    let first = (group.y * HEIGHT + local.y) * ROWS;
    let column = group.x * WIDTH + local.x;
    finish(first + #, column, sum#);
}
