//! The examples do what they say.

use std::process::Command;

/// A model of one's own learns what it should; the program of the example is built beside those of the tests.
#[test]
fn a_model_of_ones_own_is_trained() {
    let test = std::env::current_exe().expect("the path of this test");
    let folder = test.ancestors().nth(2).expect("the folder above deps").join("examples");
    let output = Command::new(folder.join("custom_model")).output().expect("the example runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("step 200: weight 3.00"), "{text}");
}
