//! Two threads of a process share a ring. Its requests name pages by grant references.

use granite_core::abi::grant::GrantRef;
use granite_core::freelist::Freelist;
use granite_core::ring::{Back, Front, Protocol, Ring, Words};
use granite_core::sync::HostThread;

/// The front sends a number, and the back returns its double.
enum Double {}

impl Protocol for Double {
    type Request = [u32; 2];
    type Response = [u32; 2];

    fn answers(response: &[u32; 2]) -> u64 {
        u64::from(response[0])
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let references = Freelist::new(HostThread, GrantRef::FIRST_FREE, 2).map_err(|_| "no memory")?;
    references.grow(64).map_err(|_| "no memory")?;
    let page = Words::new(4096);
    let mut front = Ring::<Front, Double, _>::new(page.clone())?;
    let mut back = Ring::<Back, Double, _>::attach(page)?;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            for _ in 0..8 {
                let [id, number] = loop {
                    if let Some(request) = back.pop()? {
                        break request;
                    }
                    std::thread::yield_now();
                };
                back.push(&[id, 2 * number])?;
                let _ = back.publish();
            }
            Ok::<_, granite_core::ring::RingError>(())
        });
        for _ in 0..8 {
            let reference = references.alloc().map_err(|_| "no reference is free")?;
            front.push(|id| [id.index() as u32, reference.get().0])?;
            let _ = front.publish();
            let [_, double] = loop {
                if let Some((_, response)) = front.pop()? {
                    break response;
                }
                std::thread::yield_now();
            };
            println!("twice {} is {double}", reference.get().0);
            references.free(reference).map_err(|_| "of another list")?;
        }
        server.join().map_err(|_| "the server panicked")?.map_err(Into::into)
    })
}
