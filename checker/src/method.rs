//! The methods of the public API that change or show something that is checked, by name and path.

use idempo_proto::inventory::v1 as inventory;
use idempo_proto::wallet::v1 as wallet;

/// Where a method is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// The wallet's commands and reads.
    Wallet,
    /// The inventory's commands.
    Inventory,
    /// The inventory's read model.
    InventoryQuery,
}

/// Whether a method changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It takes an idempotency key and answers with a position.
    Command,
    /// It changes nothing.
    Read,
}

/// A request that knows its method and its answer.
pub trait Request: prost::Message + Clone + Default {
    /// The method.
    const METHOD: Method;
    /// The answer.
    type Reply: prost::Message + Default;
}

macro_rules! position_in {
    (Command, $reply:ty, $bytes:ident) => {
        <$reply as prost::Message>::decode($bytes).map(|reply| reply.position)
    };
    (Read, $reply:ty, $bytes:ident) => {
        Ok(String::new())
    };
}

macro_rules! methods {
    ($($service:ident $package:literal { $($kind:ident $name:ident($request:ty) -> $reply:ty;)+ })+) => {
        /// A method of the public API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Method {
            $($(
                #[doc = concat!("`", $package, "/", stringify!($name), "`")]
                $name,
            )+)+
        }

        impl Method {
            /// Every method.
            pub const ALL: &[Self] = &[$($(Self::$name,)+)+];

            /// Its name in its service.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name),)+)+ }
            }

            /// Its path in HTTP/2.
            #[must_use]
            pub const fn path(self) -> &'static str {
                match self { $($(Self::$name => concat!("/", $package, "/", stringify!($name)),)+)+ }
            }

            /// The method with this name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                match name { $($(stringify!($name) => Some(Self::$name),)+)+ _ => None }
            }

            /// Where it is served.
            #[must_use]
            pub const fn service(self) -> Service {
                match self { $($(Self::$name)|+ => Service::$service,)+ }
            }

            /// Whether it changes something.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $($(Self::$name => Kind::$kind,)+)+ }
            }

            /// The position in an encoded reply; empty for a read.
            ///
            /// # Errors
            /// Where the bytes are no such reply.
            pub fn position_in(self, reply: &[u8]) -> Result<String, prost::DecodeError> {
                match self { $($(Self::$name => position_in!($kind, $reply, reply),)+)+ }
            }
        }

        $($(
            impl Request for $request {
                const METHOD: Method = Method::$name;
                type Reply = $reply;
            }
        )+)+
    };
}

methods! {
    Wallet "idempo.wallet.v1.WalletService" {
        Command OpenWallet(wallet::OpenWalletRequest) -> wallet::OpenWalletResponse;
        Command GrantFunds(wallet::GrantFundsRequest) -> wallet::GrantFundsResponse;
        Command BurnFunds(wallet::BurnFundsRequest) -> wallet::BurnFundsResponse;
        Command TransferFunds(wallet::TransferFundsRequest) -> wallet::TransferFundsResponse;
        Command PlaceHold(wallet::PlaceHoldRequest) -> wallet::PlaceHoldResponse;
        Command CaptureHold(wallet::CaptureHoldRequest) -> wallet::CaptureHoldResponse;
        Command ReleaseHold(wallet::ReleaseHoldRequest) -> wallet::ReleaseHoldResponse;
        Command ReverseTransaction(wallet::ReverseTransactionRequest) -> wallet::ReverseTransactionResponse;
        Read GetWallet(wallet::GetWalletRequest) -> wallet::GetWalletResponse;
    }
    Inventory "idempo.inventory.v1.InventoryService" {
        Command CreateItemType(inventory::CreateItemTypeRequest) -> inventory::CreateItemTypeResponse;
        Command GrantItem(inventory::GrantItemRequest) -> inventory::GrantItemResponse;
        Command ReserveItem(inventory::ReserveItemRequest) -> inventory::ReserveItemResponse;
        Command ReleaseReservation(inventory::ReleaseReservationRequest) -> inventory::ReleaseReservationResponse;
        Command TransferItem(inventory::TransferItemRequest) -> inventory::TransferItemResponse;
        Command ConsumeItem(inventory::ConsumeItemRequest) -> inventory::ConsumeItemResponse;
        Command EquipItem(inventory::EquipItemRequest) -> inventory::EquipItemResponse;
        Command UnequipItem(inventory::UnequipItemRequest) -> inventory::UnequipItemResponse;
    }
    InventoryQuery "idempo.inventory.v1.InventoryQueryService" {
        Read ListItems(inventory::ListItemsRequest) -> inventory::ListItemsResponse;
        Read GetItem(inventory::GetItemRequest) -> inventory::GetItemResponse;
        Read ListItemEvents(inventory::ListItemEventsRequest) -> inventory::ListItemEventsResponse;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_stands_in_the_descriptor_set() {
        let set: prost_types::FileDescriptorSet = prost::Message::decode(idempo_proto::DESCRIPTOR_SET).expect("the built-in descriptors");
        let paths: Vec<String> = set
            .file
            .iter()
            .flat_map(|file| file.service.iter().map(move |service| (file, service)))
            .flat_map(|(file, service)| {
                service.method.iter().map(move |method| format!("/{}.{}/{}", file.package(), service.name(), method.name()))
            })
            .collect();
        for method in Method::ALL {
            assert!(paths.iter().any(|path| path == method.path()), "{}", method.path());
        }
    }
}
