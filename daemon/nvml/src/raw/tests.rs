use super::*;

#[test]
fn codes_that_the_wrapper_does_not_know_keep_their_number() {
    for number in 23..=30 {
        let error = NvmlError::from(number);
        assert!(matches!(error, NvmlError::UnexpectedVariant(_)), "{error}");
        assert_eq!(Refusal::from(error), Refusal::Code(number));
    }
    assert_eq!(Refusal::from(NvmlError::InUse), Refusal::Code(code::IN_USE));
}

#[test]
fn a_missing_function_is_named() {
    let text = "/usr/lib/libnvidia-ml.so.1: undefined symbol: nvmlDeviceGetMemoryInfo_v2";
    let error = NvmlError::FailedToLoadSymbol(text.to_owned());
    assert_eq!(
        Refusal::from(error),
        Refusal::NoFunction("nvmlDeviceGetMemoryInfo_v2".to_owned())
    );
}

#[test]
fn lists_that_grow_between_two_calls_are_read_whole() {
    // As with processes that start while they are listed: each call needs more room than the one before said.
    let mut needed = 3_u32;
    let list = grown(1, 0_u32, |buffer, used| {
        let fits = buffer.len() >= needed as usize;
        *used = needed;
        if fits {
            for (entry, number) in buffer.iter_mut().zip(0..needed) {
                *entry = number;
            }
            0
        } else {
            needed += 9;
            code::INSUFFICIENT_SIZE
        }
    });
    let list = list.unwrap();
    assert_eq!(list.len(), needed as usize);
    assert!(list.iter().copied().eq(0..needed));
}

#[test]
fn a_list_that_never_fits_is_an_error_and_no_endless_loop() {
    let list = grown(1, 0_u32, |_, _| code::INSUFFICIENT_SIZE);
    assert_eq!(list, Err(Refusal::Code(code::INSUFFICIENT_SIZE)));
}

#[test]
fn versions_of_structures_are_those_of_the_header() {
    use nvml_wrapper_sys::bindings as c;
    // Compiled from NVIDIA's header.
    assert_eq!(version_of::<c::nvmlMemory_v2_t>(2), 0x0200_0028);
    assert_eq!(
        version_of::<c::nvmlGpuInstanceProfileInfo_v2_t>(2),
        0x0200_0098
    );
    assert_eq!(
        version_of::<c::nvmlGpuInstanceProfileInfo_v3_t>(3),
        0x0300_0098
    );
    assert_eq!(
        version_of::<c::nvmlComputeInstanceProfileInfo_v2_t>(2),
        0x0200_0088
    );
    assert_eq!(
        version_of::<c::nvmlComputeInstanceProfileInfo_v3_t>(3),
        0x0300_008c
    );
}
